// The frame around every screen: who is signed in, which screen the address names, language and theme.
import { button, clearError, h, language, LANGUAGES, setLanguage, showError, t } from './dom.js';
import { currentUser, finishSignIn, forgetToken, onSessionOver, signIn, signOut } from './session.js';

const WARN_MS = 5 * 60_000; // time to finish a form
const SCREENS = [
  [/^#?\/?$/, 'webhooks.js'],
  [/^#\/new$/, 'form.js'],
  [/^#\/webhooks\/([\w-]+)$/, 'webhook.js'],
  [/^#\/webhooks\/([\w-]+)\/edit$/, 'form.js'],
  [/^#\/webhooks\/([\w-]+)\/deliveries\/([\w-]+)$/, 'delivery.js'],
  [/^#\/notices$/, 'notifications.js'],
];

const main = document.getElementById('main');
const bar = document.getElementById('bar');
const brand = bar.firstElementChild;
const notes = document.getElementById('notes');
let person;
let leave = () => {};
let endings = [];

/** Return what a screen may use. Its timers end when the next screen is shown. */
function screenContext() {
  const timers = new Set();
  let isCurrent = true;
  leave = () => {
    isCurrent = false;
    timers.forEach(clearInterval);
  };
  return {
    person,
    get isCurrent() {
      return isCurrent;
    },
    /** Repeat `act`, unless the page is hidden or the last run has not ended. Returns a function that stops it. */
    every(seconds, act) {
      let isBusy = false;
      const timer = setInterval(async () => {
        if (document.hidden || isBusy) return;
        isBusy = true;
        // One failed poll does not matter: the next one follows soon.
        await act().catch(() => {});
        isBusy = false;
      }, seconds * 1000);
      timers.add(timer);
      return () => clearInterval(timer);
    },
    again: () => show(false),
  };
}

async function show(moveFocus = true) {
  leave();
  clearError();
  document.querySelectorAll('dialog').forEach((each) => each.close());
  drawBar();
  if (!person) return showSignIn();
  const target = SCREENS.map(([pattern, file]) => [location.hash.match(pattern), file]).find(([found]) => found);
  const screen = screenContext();
  main.setAttribute('aria-busy', 'true');
  try {
    if (!target) throw { detail: t('nothing-here') };
    const { draw } = await import(`./${target[1]}`);
    const nodes = await draw(screen, ...target[0].slice(1));
    if (!screen.isCurrent) return;
    main.replaceChildren(...nodes);
  } catch (error) {
    if (!screen.isCurrent || error.isSessionOver) return;
    if (!error.detail) console.error(error);
    main.replaceChildren(
      h('h1', { tabindex: -1 }, error.status === 404 || !target ? t('not-found') : t('failed')),
      h('p', {}, error.detail ?? t('fault')),
      h('p', {}, h('a', { href: '#/' }, t('back-to-webhooks'))),
    );
  }
  main.setAttribute('aria-busy', 'false');
  const heading = main.querySelector('h1');
  document.title = `${heading?.textContent ?? ''} · LMS Webhooks`;
  if (moveFocus) {
    scrollTo(0, 0);
    heading?.focus({ preventScroll: true });
  }
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
  const now = location.hash || '#/';
  if (now === href) return 'page';
  return href === '#/' && /^#\/(new|webhooks\/)/.test(now) ? 'true' : undefined;
}

function drawBar() {
  const place = person && [
    h(
      'nav',
      { 'aria-label': t('pages') },
      [['#/', t('webhooks')], ['#/notices', t('notifications')]].map(([href, label]) =>
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
  person = undefined;
  notes.replaceChildren();
  document.querySelectorAll('dialog').forEach((each) => each.close());
  leave();
  drawBar();
  showSignIn(t('session-over'));
  main.querySelector('h1').focus();
}

function watchTheClock() {
  endings.forEach(clearTimeout);
  const left = person.endsAt - Date.now();
  endings = [
    setTimeout(
      () => notes.replaceChildren(h('p', { class: 'note', role: 'status' }, t('ending'), ' ', button(t('sign-in-again'), signIn, { class: 'plain' }))),
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
  await setLanguage(localStorage.getItem('language') ?? navigator.language.slice(0, 2));
  onSessionOver(sessionOver);
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault(); // the address names the screen
    main.focus();
  });
  addEventListener('hashchange', () => show());
  const isFine = await finishSignIn();
  person = await currentUser();
  if (person) watchTheClock();
  await show(false);
  if (!isFine) showError({ detail: t('sign-in-failed') });
}

start().catch((error) => {
  main.setAttribute('aria-busy', 'false');
  showError(error);
});
