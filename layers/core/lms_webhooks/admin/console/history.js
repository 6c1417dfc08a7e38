// The deliveries of one webhook: filtered, live, replayed.
import { button, clearError, dialog, eventLabel, field, h, milliseconds, number, rule, shortTime, showError, showFieldError, t, time } from './dom.js';
import { call } from './session.js';
import { outcomeBadge } from './status.js';

const STATUSES = ['pending', 'delivered', 'failed', 'expired'];
const PAGE = 25;

export const responseOf = (attempt) => (attempt ? (attempt.statusCode ?? t(`error.${attempt.errorClass}`)) : '–');

export const reasonOf = (attempt) => attempt?.reason && h('small', {}, rule(attempt.reason));

const moment = (control) => control.value && new Date(control.value).toISOString();

const options = (pairs) => pairs.map(([value, label]) => h('option', { value }, label));

function choices(types) {
  return {
    status: (names) => h('select', {}, options([['', t('any')], ...names.map((name) => [name, t(`status.${name}`)])])),
    event: () => h('select', {}, options([['', t('any')], ...types.map((type) => [type.eventName, `${eventLabel(type)} [${t(type.category)}]`])])),
    time: () => h('input', { type: 'datetime-local', step: 1 }),
  };
}

export function historyOf(screen, webhookId, types) {
  const path = `webhooks/${webhookId}`;
  const choose = choices(types);
  const [status, eventName, from, to] = [choose.status(STATUSES), choose.event(), choose.time(), choose.time()];
  const filters = { status, eventName, from, to };
  // The browser keeps them with the address, for the way back from a delivery.
  for (const [name, control] of Object.entries(filters)) control.value = history.state?.filters?.[name] ?? '';
  const body = h('tbody');
  const none = h('p', { class: 'empty', hidden: true }, t('history.none'));
  const count = h('p', { class: 'hint', role: 'status' });
  const live = h('input', { type: 'checkbox', role: 'switch', id: 'live', checked: true });
  const more = button(t('more'), () => load(next), { hidden: true });
  let next;
  let newest = '';
  let rows = 0;

  function query(cursor) {
    const wanted = { status: status.value, eventName: eventName.value, from: moment(from), to: moment(to), limit: PAGE, cursor };
    return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  }

  async function load(cursor) {
    const asked = query(cursor);
    const page = (await call('GET', `${path}/deliveries?${asked}`)).body;
    // The filters have changed since.
    if (String(query(cursor)) !== String(asked)) return;
    const drawn = JSON.stringify(page);
    if (!cursor && drawn === newest) return;
    if (!cursor) newest = drawn;
    const focused = body.querySelector('a:focus')?.getAttribute('href');
    const made = page.deliveries.map((each) => row(path, each, types));
    if (cursor) body.append(...made);
    else body.replaceChildren(...made);
    if (focused) [...body.querySelectorAll('a')].find((link) => link.getAttribute('href') === focused)?.focus();
    rows = body.children.length;
    next = page.nextCursor;
    more.hidden = !next;
    none.hidden = rows > 0;
    count.textContent = rows ? t(next ? 'history.shown' : 'history.all', { n: rows }) : '';
  }

  for (const control of Object.values(filters)) {
    control.addEventListener('change', () => {
      const chosen = Object.entries(filters).map(([name, { value }]) => [name, value]);
      history.replaceState({ filters: Object.fromEntries(chosen) }, '');
      newest = '';
      load().catch(() => {});
    });
  }
  // Someone who reads older pages would lose their place to new rows.
  screen.every(3, async () => {
    if (live.checked && rows <= PAGE) await load();
  });
  load().catch(showError);
  const progress = progressOf(screen, path);

  return h(
    'section',
    { 'aria-label': t('history'), class: 'panel' },
    h(
      'div',
      { class: 'head' },
      h('h2', {}, t('history')),
      h('div', { class: 'do' }, h('span', { class: 'switch' }, live, h('label', { for: 'live' }, t('live'))), screen.person.canWrite && button(t('replay'), () => askForReplay(path, choose, progress.begin))),
    ),
    progress.place,
    h('form', { class: 'filters', onsubmit: (event) => event.preventDefault() }, field(t('status'), status), field(t('event'), eventName), field(t('from'), from), field(t('to'), to)),
    h(
      'table',
      { class: 'history' },
      h('caption', { class: 'unseen' }, t('history')),
      h('thead', {}, h('tr', {}, [['when', ''], ['event', ''], ['status', ''], ['attempts', 'wide'], ['response', 'wide'], ['latency', 'wide']].map(([key, name]) => h('th', { scope: 'col', class: name }, t(key))))),
      body,
    ),
    none,
    h('div', { class: 'foot' }, count, more),
  );
}

function row(path, delivery, types) {
  const type = types.find((each) => each.eventName === delivery.eventName);
  const { lastAttempt } = delivery;
  return h(
    'tr',
    {},
    h('td', {}, time(delivery.occurredAt, shortTime)),
    h('td', {}, h('a', { href: `#/${path}/deliveries/${delivery.deliveryId}`, title: delivery.eventId }, type ? eventLabel(type) : delivery.eventName), h('code', { class: 'wide' }, delivery.eventName)),
    h('td', {}, outcomeBadge(delivery.status), delivery.nextAttemptAt && h('small', {}, t('again-at'), ' ', time(delivery.nextAttemptAt, shortTime))),
    h('td', { class: 'wide' }, number(delivery.attemptCount)),
    h('td', { class: 'wide' }, responseOf(lastAttempt), reasonOf(lastAttempt)),
    h('td', { class: 'wide' }, lastAttempt ? milliseconds(lastAttempt.latencyMs) : '–'),
  );
}

// Replay

async function askForReplay(path, choose, begin) {
  clearError();
  const [from, to, status, eventName] = [choose.time(), choose.time(), choose.status(['failed', 'expired', 'delivered']), choose.event()];
  const day = new Date(Date.now() - 86_400_000);
  from.value = new Date(day - day.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
  status.value = 'failed';
  const controls = { from, to, status, eventName };
  await dialog(
    t('replay.title'),
    [h('p', {}, t('replay.text')), field(t('from'), from, { required: true }), field(t('to'), to, { hint: t('replay.until') }), field(t('status'), status), field(t('event'), eventName)],
    (close) => [
      button(t('cancel'), () => close('')),
      button(
        t('replay.start'),
        async () => {
          Object.values(controls).forEach((control) => showFieldError(control, ''));
          const wanted = { from: moment(from), to: moment(to), status: status.value, eventName: eventName.value };
          try {
            const { body } = await call('POST', `${path}/replay`, { body: Object.fromEntries(Object.entries(wanted).filter(([, value]) => value)) });
            close('');
            begin(body);
          } catch (problem) {
            const errors = problem.errors?.length ? problem.errors : [{ pointer: '', detail: problem.detail }];
            for (const { pointer, detail } of errors) showFieldError(controls[pointer.slice(1)] ?? from, rule(detail));
            (errors[0] && (controls[errors[0].pointer.slice(1)] ?? from)).focus();
          }
        },
        { class: 'primary' },
      ),
    ],
  );
}

/** Show the progress of a replay that runs, or that starts while this screen is open. */
function progressOf(screen, path) {
  const bar = h('progress', { max: 1, value: 0, 'aria-label': t('replay') });
  const text = h('p', { role: 'status' });
  const place = h('div', { class: 'replay', hidden: true }, bar, text);

  function update(replay) {
    const [from, to] = [Date.parse(replay.from), Date.parse(replay.to)];
    const isDone = replay.state === 'done';
    // The number of deliveries is unknown; the time that the replay has reached is known.
    bar.value = isDone ? 1 : replay.processedTo ? (Date.parse(replay.processedTo) - from) / Math.max(1, to - from) : 0;
    text.textContent = t(isDone ? 'replay.done' : 'replay.running', { processed: number(replay.processed), delivered: number(replay.delivered), rejected: number(replay.rejected) });
  }

  function begin(replay) {
    place.hidden = false;
    update(replay);
    if (replay.state === 'done') return;
    const stop = screen.every(1, async () => {
      const { body } = await call('GET', `${path}/replay`);
      update(body);
      if (body.state === 'done') stop();
    });
  }

  // 404: there was no replay, and nothing to show.
  call('GET', `${path}/replay`).then(({ body }) => body.state === 'running' && begin(body), () => {});
  return { place, begin };
}
