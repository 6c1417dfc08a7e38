// The frame around every screen: who is signed in, which screen the address names, language and theme.
import { button, clearMessages, confirmed, h, language, relative, rule, setLanguage, showError, t } from './dom.js';
import { call, currentUser, finishSignIn, forgetToken, isWriting, onSessionOver, poll, signIn, signOut } from './session.js';
import { first, LANGUAGES } from './words.js';

const WARN_MS = 5 * 60_000; // time to finish a form
const RECONNECT_SECONDS = 5;
const SCREENS = [
  [/^#?\/?$/, 'webhooks.js'],
  [/^#\/new$/, 'form.js'],
  [/^#\/webhooks\/([\w-]+)$/, 'webhook.js'],
  [/^#\/webhooks\/([\w-]+)\/edit$/, 'form.js'],
  [/^#\/webhooks\/([\w-]+)\/deliveries\/([\w-]+)$/, 'deliveries.js'],
  [/^#\/activity$/, 'activity.js'],
  [/^#\/event-types$/, 'types.js'],
  [/^#\/notices$/, 'notifications.js'],
];

const main = document.getElementById('main');
const bar = document.getElementById('bar');
const brand = bar.firstElementChild;
const notes = document.getElementById('notes');
const offline = document.getElementById('offline');
let person;
let leave = () => {};
let endings = [];
let shown; // the address of the screen
let screen;

/** Return what a screen may use. Its timers end when the next screen is shown. */
function screenContext() {
  const timers = new Map();
  const failing = new Map(); // each poll that fails: when it last worked, and the error
  let isCurrent = true;
  const ageing = setInterval(showOffline, 1000);
  leave = () => {
    isCurrent = false;
    [ageing, ...timers.keys()].forEach(clearInterval);
    failing.clear();
    showOffline();
  };

  /** Say that what is shown is old, and how old. */
  function showOffline() {
    offline.hidden = failing.size === 0;
    if (offline.hidden) return;
    const [since, error] = [...failing.values()].sort(([one], [other]) => one - other)[0];
    const [text, age] = offline.children;
    const said = t(error.status === 0 ? 'offline' : 'stale');
    // Only this is read aloud, once; the age goes on.
    if (text.textContent !== said) text.textContent = said;
    age.textContent = t('last-updated', { time: relative(since) });
  }

  return {
    person,
    query: new URLSearchParams(location.hash.split('?')[1]),
    /** Set it to a function that returns what would be lost, or undefined if nothing would. */
    unsaved: () => undefined,
    get isCurrent() {
      return isCurrent;
    },
    /** Repeat `act`, unless the page is hidden or left, a write runs, or the last run has not ended. Returns a function that stops it. */
    every(seconds, act) {
      if (!isCurrent) return () => {};
      let isBusy = false;
      let workedAt = Date.now();
      const run = async () => {
        if (document.hidden || isBusy || isWriting() || location.hash !== shown) return;
        isBusy = true;
        try {
          await poll(act);
          workedAt = Date.now();
          failing.delete(timer);
        } catch (error) {
          if (!isCurrent || error.isSessionOver) return;
          if (error.status === 404) return void show(false); // deleted by somebody else
          failing.set(timer, [workedAt, error]);
        } finally {
          isBusy = false;
          if (isCurrent) showOffline();
        }
      };
      const timer = setInterval(run, seconds * 1000);
      timers.set(timer, run);
      return () => {
        clearInterval(timer);
        timers.delete(timer);
        failing.delete(timer);
      };
    },
    /** Repeat `act` each second until it returns a truth, or for a minute. */
    async until(act) {
      const stopAt = Date.now() + 60_000;
      const { promise, resolve } = Promise.withResolvers();
      const stop = this.every(1, async () => {
        if (!(await act()) && Date.now() < stopAt) return;
        stop();
        resolve();
      });
      await promise;
    },
    /** Run every poll now. */
    refresh: () => timers.forEach((run) => run()),
    again: () => show(false),
    /** Put what was chosen here into the address, so that a bookmark or a colleague finds it. */
    setQuery(query) {
      if (!isCurrent) return;
      shown = location.hash.split('?')[0] + (`${query}` && `?${query}`);
      history.replaceState(null, '', shown);
    },
    /** Return what was unsaved when this screen had to go, once. */
    draft() {
      const { hash, values } = JSON.parse(sessionStorage.getItem('draft') ?? '{}');
      if (hash !== location.hash) return undefined;
      sessionStorage.removeItem('draft');
      return values;
    },
  };
}

async function show(moveFocus = true) {
  leave();
  clearMessages();
  closeDialogs();
  drawBar();
  shown = location.hash;
  if (!person) return showSignIn();
  const address = shown.split('?')[0];
  const target = SCREENS.map(([pattern, file]) => [address.match(pattern), file]).find(([found]) => found);
  screen = screenContext();
  const mine = screen;
  main.setAttribute('aria-busy', 'true');
  try {
    if (!target) throw { detail: t('nothing-here') };
    const { draw } = await import(`./${target[1]}`);
    const nodes = await draw(mine, ...target[0].slice(1));
    if (!mine.isCurrent) return;
    main.replaceChildren(...nodes);
  } catch (error) {
    if (!mine.isCurrent || error.isSessionOver) return;
    if (!error.detail) console.error(error);
    const isPassing = error.status === 0 || error.status > 501;
    main.replaceChildren(...errorPage(error, target, isPassing));
    if (isPassing) mine.every(RECONNECT_SECONDS, reconnect);
  }
  main.setAttribute('aria-busy', 'false');
  const heading = main.querySelector('h1');
  document.title = `${heading?.textContent ?? ''} · LMS Webhooks`;
  if (moveFocus) {
    scrollTo(0, 0);
    heading?.focus({ preventScroll: true });
  }
}

const errorPage = (error, target, isPassing) => [
  h('h1', { tabindex: -1 }, error.status === 404 || !target ? t('not-found') : t('failed')),
  h('p', {}, error.detail ? rule(error.detail) : t('fault'), isPassing && ` ${t('retrying')}`),
  h(
    'p',
    { class: 'do' },
    target && button(t('try-again'), () => show(), { class: 'primary' }),
    target?.[1] !== 'webhooks.js' && h('a', { class: 'button', href: '#/' }, t('back-to-webhooks')),
  ),
];

/** Draw the screen as soon as the API can be reached. */
async function reconnect() {
  const isBack = await call('GET', 'webhooks').then(() => true, () => false);
  if (isBack) await show(main.contains(document.activeElement));
}

// What is not saved

/** Return what would be lost: a form with changes, or a secret that nobody stored. */
const unsaved = () => screen?.isCurrent && screen.unsaved();

/** Close every dialog but that of a secret, which is shown once and may still be stored. */
const closeDialogs = () => document.querySelectorAll('dialog:not(.stays)').forEach((each) => each.close());

const secretShown = () => document.querySelector('dialog.stays');

/** Keep a form for when its screen is drawn again: signing in leaves the page. */
function keepDraft() {
  const values = unsaved();
  if (values) sessionStorage.setItem('draft', JSON.stringify({ hash: location.hash, values }));
  return Boolean(values);
}

const mayLeave = async () => !unsaved() || (await confirmed(t('unsaved.title'), t('unsaved.text'), t('unsaved.discard'), { danger: true }));

async function goTo(hash) {
  if (!(await mayLeave())) return;
  screen.unsaved = () => undefined;
  location.hash = hash;
}

/** Follow the address. Back and forward have changed it before anybody could ask. */
async function follow() {
  const wanted = location.hash;
  if (wanted === shown) return;
  if (!secretShown() && !unsaved()) return show();
  history.pushState(null, '', shown);
  if (!secretShown()) await goTo(wanted);
}

function showSignIn(text = t('sign-in.text')) {
  document.title = 'LMS Webhooks';
  main.setAttribute('aria-busy', 'false');
  main.replaceChildren(
    h(
      'div',
      { class: 'door' },
      h('h1', { tabindex: -1 }, t('webhooks')),
      h('p', {}, text),
      button(t('sign-in'), signIn, { class: 'primary' }),
    ),
  );
}

/** Whether a link of the bar leads to this page, or to the list of which this page shows one. */
function ariaCurrent(href) {
  const now = location.hash.split('?')[0] || '#/';
  if (now === href) return 'page';
  return href === '#/' && /^#\/(new|webhooks\/)/.test(now) ? 'true' : undefined;
}

function drawBar() {
  const place = person && [
    h(
      'nav',
      { 'aria-label': t('pages') },
      [['#/', t('webhooks')], ['#/event-types', t('types')], ['#/activity', t('activity')], ['#/notices', t('notifications')]].map(([href, label]) =>
        h('a', { href, 'aria-current': ariaCurrent(href) }, label),
      ),
    ),
    h('span', { class: 'who' }, h('span', {}, person.user), h('span', {}, t('account', { id: person.account }))),
  ];
  const isDark = darkness();
  bar.replaceChildren(
    brand,
    ...(place || [h('span', { class: 'who' })]),
    h(
      'select',
      {
        'aria-label': t('language'),
        async onchange(event) {
          localStorage.setItem('language', event.target.value);
          await setLanguage(event.target.value);
          keepDraft();
          await show(false);
          bar.querySelector('select').focus();
        },
      },
      Object.entries(LANGUAGES).map(([code, name]) => h('option', { value: code, lang: code, selected: code === language }, name)),
    ),
    h(
      'button',
      {
        type: 'button',
        class: 'plain theme',
        'aria-label': t('dark-theme'),
        'aria-pressed': String(isDark),
        title: t('dark-theme'),
        onclick(event) {
          const now = darkness() ? 'light' : 'dark';
          localStorage.setItem('theme', now);
          document.documentElement.dataset.theme = now;
          event.currentTarget.setAttribute('aria-pressed', String(now === 'dark'));
        },
      },
      '◐',
    ),
    ...(person ? [button(t('sign-out'), signOut, { class: 'plain out' })] : []),
  );
}

const darkness = () => (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';

function sessionOver() {
  if (!person) return;
  person = undefined;
  notes.replaceChildren();
  keepDraft();
  closeDialogs();
  leave();
  drawBar();
  showSignIn(t('session-over'));
  main.querySelector('h1').focus();
}

function signInAgain() {
  if (keepDraft()) screen.unsaved = () => undefined;
  return signIn();
}

function watchTheClock() {
  endings.forEach(clearTimeout);
  const left = person.endsAt - Date.now();
  endings = [
    setTimeout(
      () => notes.replaceChildren(h('p', { class: 'note', role: 'status' }, t('ending'), ' ', button(t('sign-in-again'), () => signInAgain(), { class: 'plain' }))),
      Math.max(0, left - WARN_MS),
    ),
    setTimeout(() => {
      forgetToken();
      sessionOver();
    }, left),
  ];
}

async function start() {
  const theme = localStorage.getItem('theme');
  if (theme) document.documentElement.dataset.theme = theme;
  await setLanguage(first);
  onSessionOver(sessionOver);
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault(); // the address names the screen
    main.focus();
  });
  addEventListener('hashchange', follow);
  addEventListener('beforeunload', (event) => (unsaved() || secretShown()) && event.preventDefault());
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="#/"]');
    if (!link || !unsaved() || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    goTo(link.getAttribute('href'));
  });
  addEventListener('online', () => screen?.refresh());
  document.addEventListener('visibilitychange', () => document.hidden || screen?.refresh());
  const isFine = await finishSignIn();
  person = await currentUser();
  if (person) watchTheClock();
  await show(false);
  if (!isFine) showError({ detail: t('sign-in-failed') });
}

start().catch((error) => {
  main.setAttribute('aria-busy', 'false');
  showError(error);
  main.replaceChildren(h('h1', {}, t('failed')), button(t('try-again'), () => location.reload(), { class: 'primary' }));
});
