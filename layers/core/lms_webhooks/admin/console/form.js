// Add a webhook, or change one.
import { announce, button, clearError, dialog, eventLabel, field, fieldLabel, h, rule, showError, showFieldError, t, table } from './dom.js';
import { call, eventTypes } from './session.js';
import { confirmOverlapEnd, hasTwoSecrets, makeSchedule, scheduleText, showSecret } from './settings.js';
import { sampleResult } from './status.js';

const MAX_DESCRIPTION = 140;

export async function draw(screen, webhookId) {
  const [types, known] = await Promise.all([eventTypes(), webhookId && call('GET', `webhooks/${webhookId}`)]);
  const old = known?.body;
  let etag = known?.etag;

  const name = h('input', { maxlength: 80, autocomplete: 'off', value: old?.name ?? '' });
  const description = h('textarea', { maxlength: MAX_DESCRIPTION, rows: 2, value: old?.description ?? '' });
  const left = h('span', { class: 'hint' });
  const countDown = () => left.replaceChildren(t('left', { n: MAX_DESCRIPTION - description.value.length }));
  description.addEventListener('input', countDown);
  countDown();
  const targetUrl = h('input', { type: 'url', inputmode: 'url', autocomplete: 'off', spellcheck: 'false', value: old?.targetUrl ?? 'https://' });
  const authentication = makeAuthentication(old, generate);
  const events = makeEvents(types, old?.events ?? []);
  const active = h('input', { type: 'checkbox', role: 'switch', id: 'active', checked: old ? old.status !== 'inactive' : true });
  const ordered = h('input', { type: 'checkbox', id: 'ordered', checked: old?.ordered ?? false });
  const headers = h('textarea', { rows: 3, spellcheck: 'false', class: 'code', value: Object.entries(old?.headers ?? {}).map((pair) => pair.join(': ')).join('\n') });
  const schedule = makeSchedule(old?.batchSchedule);
  const keep = h('input', { type: 'checkbox', id: 'keep', checked: old?.keepResponseBodies ?? false });
  const result = h('div', { class: 'result', role: 'status' });
  const more = h('details', {}, h('summary', {}, t('more-options')),
    h('p', { class: 'check' }, ordered, h('label', { for: 'ordered' }, t('ordered'))),
    schedule.element,
    field(t('headers'), headers, { hint: t('headers.hint') }),
    h('p', { class: 'check' }, keep, h('label', { for: 'keep' }, t('keep'))));

  const controls = {
    name,
    description,
    targetUrl,
    headers,
    ...schedule.controls,
    events: events.search,
    'authentication/type': authentication.type,
    'authentication/username': authentication.username,
    'authentication/password': authentication.password,
  };

  /** Return all fields, as the body of a call that creates. */
  function everything() {
    const pairs = headers.value.split('\n').filter((line) => line.trim()).map((line) => {
      const at = line.indexOf(':');
      return [line.slice(0, at < 0 ? line.length : at).trim(), at < 0 ? '' : line.slice(at + 1).trim()];
    });
    return {
      name: name.value.trim(),
      description: description.value.trim(),
      targetUrl: targetUrl.value.trim(),
      authentication: authentication.read(),
      events: events.read(),
      ordered: ordered.checked,
      headers: Object.fromEntries(pairs),
      batchSchedule: schedule.read(),
      keepResponseBodies: keep.checked,
    };
  }

  /** Return the fields that differ from the saved ones. An empty password stays as it is. */
  function changes() {
    const wanted = everything();
    const isKept = authentication.isKept();
    const changed = Object.entries(wanted).filter(([key, value]) => (key === 'authentication' ? !isKept : value !== undefined && JSON.stringify(value) !== JSON.stringify(old[key])));
    if (active.checked !== (old.status !== 'inactive')) changed.push(['status', active.checked ? 'active' : 'inactive']);
    return Object.fromEntries(changed);
  }

  function clearErrors() {
    clearError();
    result.replaceChildren();
    Object.values(controls).forEach((control) => showFieldError(control, ''));
  }

  /** Show each error beside its field, and focus the first. */
  function showErrors(problem) {
    if (problem.slug === 'version-conflict') return showConflict(screen, old, { ...everything(), status: active.checked ? old.status.replace('inactive', 'active') : 'inactive' }, types);
    if (!problem.errors?.length) throw problem;
    const marked = new Set();
    for (const { pointer, detail } of problem.errors) {
      const path = pointer.slice(1);
      const key = Object.keys(controls).find((each) => path === each || path.startsWith(`${each}/`)) ?? (path === 'authentication' ? 'authentication/type' : undefined);
      if (!key) throw problem;
      if (marked.has(key)) continue;
      marked.add(key);
      // Many lines are in one field: say which.
      const line = key === 'headers' ? path.slice('headers/'.length).replaceAll('~1', '/').replaceAll('~0', '~') : '';
      showFieldError(controls[key], (line && `${line}: `) + rule(detail));
    }
    if ([...marked].some((key) => more.contains(controls[key]))) more.open = true;
    const first = Object.keys(controls).sort((one, other) => (controls[one].compareDocumentPosition(controls[other]) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1)).find((key) => marked.has(key));
    controls[first].focus();
    announce(t('see-errors', { n: marked.size }));
    return undefined;
  }

  /** Send a sample; returns whether it was delivered. */
  async function test() {
    clearErrors();
    const wanted = everything();
    // A test of the saved webhook uses the saved secret or password, which the form does not have.
    const isSaved = old && wanted.targetUrl === old.targetUrl && authentication.isKept() && JSON.stringify(wanted.headers) === JSON.stringify(old.headers);
    if (!isSaved && authentication.isKept() && authentication.type.value === 'basic') {
      showFieldError(authentication.password, t('password-for-test'));
      authentication.password.focus();
      return false;
    }
    result.replaceChildren(h('p', {}, t('testing')));
    try {
      const { body } = isSaved
        ? await call('POST', `webhooks/${webhookId}/test`, { body: { eventName: wanted.events.find((name) => types.some((type) => type.eventName === name)) } })
        : await call('POST', 'webhooks/test', { body: wanted });
      result.replaceChildren(
        ...sampleResult(body),
        !isSaved && wanted.authentication.type === 'signature' ? h('p', { class: 'hint' }, t('test.unsigned')) : '',
      );
      return body.delivered;
    } catch (problem) {
      result.replaceChildren();
      await showErrors(problem);
      return false;
    }
  }

  async function save(status) {
    clearErrors();
    try {
      let saved = old;
      if (!old) saved = (await call('POST', 'webhooks', { body: { ...everything(), status } })).body;
      else if (Object.keys(changes()).length) saved = (await call('PATCH', `webhooks/${webhookId}`, { body: changes(), etag })).body;
      screen.unsaved = () => undefined;
      return saved;
    } catch (problem) {
      await showErrors(problem);
      return undefined;
    }
  }

  async function saveAndLeave() {
    const saved = await save(active.checked ? 'active' : 'inactive');
    if (!saved) return;
    const { secret } = saved.authentication;
    if (secret) await showSecret({ webhookId: saved.webhookId, secret }, saved.name);
    if (!screen.isCurrent) return;
    location.hash = `#/webhooks/${saved.webhookId}`;
    announce(t('saved', { name: saved.name }), { onNextScreen: true });
  }

  /** Save a new webhook as inactive, so that its receiver can get the secret first. */
  async function generate() {
    if (old && authentication.isKept()) {
      clearErrors();
      if (hasTwoSecrets(old) && !(await confirmOverlapEnd(old))) return undefined;
      let body;
      try {
        ({ body, etag } = await call('POST', `webhooks/${webhookId}/signature`, { etag }));
      } catch (problem) {
        return showErrors(problem);
      }
      old.authentication.previousSecretExpiresAt = body.previousSecretExpiresAt;
      return showSecret(body, old.name);
    }
    const wasActive = active.checked;
    active.checked = false;
    const saved = await save('inactive');
    if (!saved) {
      active.checked = wasActive;
      return undefined;
    }
    if (saved.authentication.secret) await showSecret({ webhookId: saved.webhookId, secret: saved.authentication.secret }, saved.name);
    if (!screen.isCurrent) return undefined;
    const next = `#/webhooks/${saved.webhookId}/edit`;
    if (location.hash === next) return screen.again();
    location.hash = next;
    announce(t('saved-inactive'), { onNextScreen: true });
    return undefined;
  }

  /** Choose what Adobe Learning Manager does: inactive at first, and one request at a time. */
  function likeAdobe() {
    active.checked = false;
    ordered.checked = true;
    more.open = true;
    announce(t('preset.done'));
  }

  const form = h(
    'form',
    { novalidate: true, class: 'panel form', onsubmit: (event) => event.preventDefault() },
    h('p', { class: 'hint' }, t('required')),
    !old && h('p', { class: 'do' }, button(t('preset'), likeAdobe, { class: 'small' }), h('span', { class: 'hint' }, t('preset.hint'))),
    h(
      'div',
      { class: 'columns' },
      h(
        'div',
        { class: 'group' },
        field(t('name'), name, { required: true }),
        field(t('description'), description, { aside: left }),
        field(t('target-url'), targetUrl, { required: true, hint: t('target-url.hint') }),
        authentication.element,
        more,
      ),
      events.element,
    ),
    h('p', { class: 'check switch' }, active, h('label', { for: 'active' }, t('activation'))),
    old?.status === 'paused' && h('p', { class: 'hint' }, t('paused.note')),
    result,
    h(
      'div',
      { class: 'actions' },
      button(t('test-webhook'), test),
      button(t('test-and-save'), async () => {
        if (await test()) await saveAndLeave();
      }, { class: 'primary' }),
      button(t('save'), saveAndLeave),
      h('a', { class: 'button plain', href: old ? `#/webhooks/${webhookId}` : '#/' }, t('cancel')),
    ),
  );
  etag = guard(screen, form, () => etag);
  if (!screen.person.canWrite) showError({ detail: t('reader') });
  return [h('p', { class: 'back' }, h('a', { href: old ? `#/webhooks/${webhookId}` : '#/' }, `← ${old ? old.name : t('webhooks')}`)), h('h1', { tabindex: -1 }, old ? t('edit.title', { name: old.name }) : t('add')), form];
}

/** Let no change be lost: the page asks before it goes, and has what was typed when it must go. Passwords are not kept. Returns the ETag that the changes are of. */
function guard(screen, form, etagNow) {
  const controls = [...form.elements].filter((each) => each.matches('input, select, textarea') && !['password', 'search'].includes(each.type));
  const read = () => controls.map((each) => (each.type === 'checkbox' ? each.checked : each.value));
  const saved = JSON.stringify(read());
  screen.unsaved = () => (JSON.stringify(read()) !== saved || form.querySelector('[type=password]').value ? { etag: etagNow(), values: read() } : undefined);
  const draft = screen.draft();
  if (draft?.values.length !== controls.length) return etagNow();
  controls.forEach((each, index) => {
    if (each.type === 'checkbox') each.checked = draft.values[index];
    else each.value = draft.values[index];
    each.dispatchEvent(new Event(each.tagName === 'TEXTAREA' ? 'input' : 'change'));
  });
  announce(t('draft'));
  return draft.etag;
}

/** Show what somebody else saved meanwhile, beside what this form has. */
async function showConflict(screen, old, mine, types) {
  const { body: theirs } = await call('GET', `webhooks/${old.webhookId}`);
  const label = (name) => eventLabel(types.find((type) => type.eventName === name) ?? { label: name });
  const write = (value, key) => {
    if (Array.isArray(value)) return value.map(label).join(', ');
    if (value?.dailyAt || value?.everyMinutes) return scheduleText(value);
    if (key === 'status') return t(`now.${value}`, { name: old.name });
    if (value?.type) return t(`auth.${value.type}`) + (value.username ? ` (${value.username})` : '');
    return typeof value === 'string' ? value : typeof value === 'boolean' ? t(key === 'ordered' ? (value ? 'order.kept' : 'order.free') : value ? 'bodies.kept' : 'bodies.free') : JSON.stringify(value);
  };
  const rows = Object.keys(mine).filter((key) => mine[key] !== undefined && write(mine[key], key) !== write(theirs[key], key));
  const chosen = await dialog(
    t('conflict.title'),
    [
      h('p', {}, t('conflict.text', { who: theirs.updatedBy })),
      table(
        t('conflict.title'),
        ['conflict.field', 'conflict.theirs', 'conflict.mine'],
        h('tbody', {}, rows.map((key) => h('tr', {}, h('th', { scope: 'row' }, fieldLabel(key)), h('td', {}, write(theirs[key], key)), h('td', {}, write(mine[key], key))))),
      ),
    ],
    (close) => [button(t('cancel'), () => close('')), button(t('reload'), () => close('reload'), { class: 'primary' })],
  );
  if (chosen !== 'reload') return;
  screen.unsaved = () => undefined;
  await screen.again();
}

function makeAuthentication(old, generate) {
  const before = old?.authentication ?? { type: 'signature' };
  const type = h('select', {}, ['none', 'basic', 'signature'].map((each) => h('option', { value: each, selected: each === before.type }, t(`auth.${each}`))));
  const username = h('input', { autocomplete: 'off', maxlength: 255, value: before.username ?? '' });
  const password = h('input', { type: 'password', autocomplete: 'new-password', maxlength: 255 });
  const isSame = () => Boolean(old) && type.value === before.type;
  const basic = h('div', { class: 'pair' }, field(t('username'), username, { required: true }), field(t('password'), password, { required: !old || before.type !== 'basic', hint: before.type === 'basic' ? t('password.hint') : undefined }));
  const hint = h('p', { class: 'hint' });
  const signature = h('div', {}, hint, button(t('generate'), generate));
  function show() {
    basic.hidden = type.value !== 'basic';
    signature.hidden = type.value !== 'signature';
    hint.textContent = t(isSame() ? 'generate.again' : 'generate.hint');
  }
  type.addEventListener('change', show);
  const element = h('div', { class: 'group' }, field(t('authentication'), type, { required: true }), basic, signature);
  show();
  return {
    element, type, username, password,
    isKept: () => isSame() && (type.value !== 'basic' || (username.value === before.username && !password.value)),
    read: () => (type.value === 'basic' ? { type: 'basic', username: username.value, password: password.value } : { type: type.value }),
  };
}

/** Make a list of event types with checkboxes and a search. */
function makeEvents(types, chosen) {
  const count = h('span', { class: 'hint', role: 'status' });
  const search = h('input', { type: 'search', autocomplete: 'off', placeholder: t('events.search'), oninput: filter });
  const isListed = (name) => types.some((type) => type.eventName === name);
  const gone = chosen.filter((name) => !isListed(name)).map((name) => ({ eventName: name, label: name, category: 'events.unlisted' }));
  const rows = [...types, ...gone].map((type) => {
    const box = h('input', { type: 'checkbox', value: type.eventName, checked: chosen.includes(type.eventName), onchange: showCount });
    const text = `${eventLabel(type)} ${type.label} ${type.eventName} ${t(type.category)}`.toLowerCase();
    const element = h('li', {}, h('label', {}, box, h('span', {}, eventLabel(type), ' ', h('span', { class: `tag ${type.category}` }, `[${t(type.category)}]`), h('code', {}, type.eventName))));
    return { box, text, element };
  });
  const none = h('li', { class: 'empty', hidden: true }, t('events.none'));
  const shown = () => rows.filter((row) => !row.element.hidden);
  function showCount() {
    count.textContent = t('events.chosen', { n: rows.filter((row) => row.box.checked).length });
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => {
      row.element.hidden = !words.every((word) => row.text.includes(word));
    });
    none.hidden = shown().length > 0;
  }
  const tick = (isTicked) => () => {
    shown().forEach((row) => {
      row.box.checked = isTicked;
    });
    showCount();
  };
  showCount();
  const element = h(
    'fieldset',
    {},
    h('legend', {}, t('events'), h('span', { class: 'star', 'aria-hidden': 'true' }, ' *')),
    field(t('events.find'), search, { aside: count }),
    h('ul', { class: 'picks', 'aria-label': t('events') }, rows.map((row) => row.element), none),
    h('div', { class: 'do' }, button(t('events.all'), tick(true), { class: 'small' }), button(t('events.clear'), tick(false), { class: 'small' })),
  );
  return { element, search, read: () => rows.filter((row) => row.box.checked).map((row) => row.box.value) };
}
