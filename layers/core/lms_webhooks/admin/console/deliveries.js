// The deliveries of one webhook: filtered, live, replayed; and one of them with its request and its attempts.
import { announce, atLeast, button, clearError, copyable, copyButton, dialog, eventLabel, field, fullTime, h, milliseconds, number, panel, rule, shortTime, showError, showFieldError, t, table, time } from './dom.js';
import { call, eventTypes } from './session.js';
import { adviceFor, facts, outcomeBadge, responseOf } from './status.js';

const STATUSES = ['pending', 'delivered', 'failed', 'expired'];
const PAGE = 25;

const reasonOf = (attempt) => attempt?.reason && h('small', {}, rule(attempt.reason));

const moment = (control) => control.value && new Date(control.value).toISOString();

/** Write a time as the field of a form has it: local, without a zone. */
const local = (time) => new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);

/** The address of a webhook's screen, with the filters that were last chosen there. */
const addresses = new Map();
const addressOf = (webhookId) => addresses.get(webhookId) ?? `#/webhooks/${webhookId}`;

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
  const eventId = h('input', { type: 'search', autocomplete: 'off', spellcheck: 'false' });
  const filters = { status, eventName, from, to, eventId };
  for (const [name, control] of Object.entries(filters)) {
    const given = screen.query.get(name) ?? '';
    control.value = control.type === 'datetime-local' && Date.parse(given) ? local(Date.parse(given)) : given;
  }
  const body = h('tbody');
  const none = h('p', { class: 'empty', hidden: true });
  const count = h('p', { class: 'hint', role: 'status' });
  const live = h('input', { type: 'checkbox', role: 'switch', id: 'live', checked: true });
  const more = button(t('more'), () => load(next), { hidden: true });
  let next;
  let newest = '';
  let rows = 0;

  function query(more = {}) {
    const wanted = { status: status.value, eventName: eventName.value, from: moment(from), to: moment(to), eventId: eventId.value.trim(), ...more };
    return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  }

  function remember() {
    screen.setQuery(query());
    addresses.set(webhookId, location.hash);
  }

  async function load(cursor) {
    const asked = query({ limit: PAGE, cursor });
    const page = (await call('GET', `${path}/deliveries?${asked}`)).body;
    // The filters have changed since.
    if (!screen.isCurrent || String(query({ limit: PAGE, cursor })) !== String(asked)) return;
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
    if (!rows && next && eventId.value) return load(next); // each call reads a part
    none.hidden = rows > 0 || Boolean(next);
    none.textContent = t(String(query()) ? 'history.none' : 'history.first');
    count.textContent = rows ? t(next ? 'history.shown' : 'history.all', { n: rows }) : '';
    return undefined;
  }

  for (const control of Object.values(filters)) {
    control.addEventListener('change', () => {
      clearError();
      remember();
      newest = '';
      load().catch(showError);
    });
  }
  remember();
  // Someone who reads older pages would lose their place to new rows.
  screen.every(3, async () => {
    // A search for one event reads much of the history.
    if (live.checked && rows <= PAGE && !eventId.value) await load();
  });
  load().catch(showError);
  const progress = progressOf(screen, path);

  const element = panel(
    t('history'),
    h(
      'div',
      { class: 'head' },
      h('h2', {}, t('history')),
      h('div', { class: 'do' }, h('span', { class: 'switch' }, live, h('label', { for: 'live' }, t('live'))), screen.person.canWrite && button(t('replay'), () => askForReplay(path, choose, progress.begin))),
    ),
    progress.place,
    h('form', { class: 'filters', onsubmit: (event) => event.preventDefault() }, field(t('status'), status), field(t('event'), eventName), field(t('from'), from), field(t('to'), to), field(t('event-id'), eventId)),
    table(t('history'), ['when', 'event', 'status', ['attempts', 'wide'], ['response', 'wide'], ['latency', 'wide']], body, { class: 'history' }),
    none,
    h('div', { class: 'foot' }, count, more),
  );
  return { element, showReplay: progress.begin };
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
    h('td', { class: 'wide' }, lastAttempt ? responseOf(lastAttempt) : '–', reasonOf(lastAttempt)),
    h('td', { class: 'wide' }, lastAttempt ? milliseconds(lastAttempt.latencyMs) : '–'),
  );
}

// Replay

async function askForReplay(path, choose, begin) {
  clearError();
  const [from, to, status, eventName] = [choose.time(), choose.time(), choose.status(['failed', 'expired', 'delivered']), choose.event()];
  from.value = local(Date.now() - 86_400_000);
  status.value = 'failed';
  const controls = { from, to, status, eventName };
  const read = () => Object.fromEntries(Object.entries({ from: moment(from), to: moment(to), status: status.value, eventName: eventName.value }).filter(([, value]) => value));
  const many = h('p', { role: 'status' });
  /** Say how many it would send. A wrong field has its error when the replay is started. */
  async function preview() {
    const asked = String(new URLSearchParams(read()));
    const found = await call('GET', `${path}/replay/preview?${asked}`).then(({ body }) => body, () => undefined);
    if (asked !== String(new URLSearchParams(read()))) return;
    many.textContent = found ? t(found.count ? 'replay.count' : 'history.none', { n: found.count, count: atLeast(found) }) : '';
  }
  for (const control of Object.values(controls)) control.addEventListener('change', preview);
  preview();
  await dialog(
    t('replay.title'),
    [h('p', {}, t('replay.text')), field(t('from'), from, { required: true }), field(t('to'), to, { hint: t('replay.until') }), field(t('status'), status), field(t('event'), eventName), many],
    (close) => [
      button(t('cancel'), () => close('')),
      button(
        t('replay.start'),
        async () => {
          Object.values(controls).forEach((control) => showFieldError(control, ''));
          try {
            const { body } = await call('POST', `${path}/replay`, { body: read() });
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

function progressOf(screen, path) {
  const bar = h('progress', { max: 1, value: 0, 'aria-label': t('replay') });
  const text = h('p', { role: 'status' });
  const end = screen.person.canWrite && button(t('replay.stop'), () => call('DELETE', `${path}/replay`), { class: 'small' });
  const place = h('div', { class: 'replay', hidden: true }, bar, text, end);

  function update(replay) {
    const [from, to] = [Date.parse(replay.from), Date.parse(replay.to)];
    const isDone = replay.state === 'done';
    // The number of deliveries is unknown; the time that the replay has reached is known.
    bar.value = isDone ? 1 : replay.processedTo ? (Date.parse(replay.processedTo) - from) / Math.max(1, to - from) : 0;
    if (end) end.hidden = replay.state !== 'running';
    const isEmpty = isDone && replay.delivered + replay.rejected === 0;
    const counts = { processed: number(replay.processed), delivered: number(replay.delivered), rejected: number(replay.rejected) };
    text.textContent = isEmpty ? t('replay.nothing') : t(`replay.${replay.state}`, counts);
  }

  let followed;
  /** Show a replay, and its progress until it ends. */
  function begin(replay) {
    if (followed === replay.replayId) return;
    followed = replay.replayId;
    place.hidden = false;
    update(replay);
    if (replay.state !== 'running') return;
    const stop = screen.every(1, async () => {
      const { body } = await call('GET', `${path}/replay`);
      update(body);
      if (body.state !== 'running') stop();
    });
  }

  return { place, begin };
}

// One delivery

export async function draw(screen, webhookId, deliveryId) {
  const path = `webhooks/${webhookId}/deliveries/${deliveryId}`;
  const [response, webhook, types] = await Promise.all([
    call('GET', path),
    call('GET', `webhooks/${webhookId}`),
    eventTypes(),
  ]);
  let delivery = response.body;
  const json = bodyOf(screen.person.account, eventText(response.text));
  const type = types.find((each) => each.eventName === delivery.eventName);
  const mark = h('span');
  const details = h('div');
  const attempts = h('tbody');
  const none = h('p', { class: 'empty' });
  const endpoint = h('tbody');
  const redeliverButton = screen.person.canWrite && button(t('redeliver'), redeliver, { class: 'primary' });

  function update() {
    mark.replaceChildren(outcomeBadge(delivery.status));
    details.replaceChildren(
      facts(
        [
          [t('event-id'), copyable(delivery.eventId, t('event-id'))],
          [t('webhook-id'), copyable(webhookId, t('webhook-id'))],
          [t('delivery-id'), copyable(deliveryId, t('delivery-id'))],
          [t('occurred'), time(delivery.occurredAt, fullTime)],
          [t('accepted'), time(delivery.acceptedAt, fullTime)],
          delivery.reason && [t('reason'), rule(delivery.reason)],
          delivery.nextAttemptAt && [t('next-attempt'), time(delivery.nextAttemptAt, shortTime)],
        ],
        { class: 'settings' },
      ),
    );
    const isPending = delivery.status === 'pending';
    // Sent again while it is pending, it would arrive twice. A rejected one may go out before its time.
    if (redeliverButton) redeliverButton.hidden = isPending && !delivery.nextAttemptAt;
    none.hidden = delivery.attempts.length > 0;
    attempts.parentElement.hidden = !none.hidden;
    const tried = delivery.endpointAttempts ?? [];
    none.textContent = t(tried.length ? 'attempts.endpoint' : isPending ? 'attempts.pending' : 'attempts.none');
    attempts.replaceChildren(...delivery.attempts.map(attemptRow));
    endpoint.parentElement.hidden = tried.length === 0;
    endpoint.replaceChildren(...tried.map(attemptRow));
  }

  let shown = response.text;

  async function load() {
    const now = await call('GET', path);
    if (now.text === shown) return; // drawn again, a text selection would be lost
    shown = now.text;
    delivery = now.body;
    update();
  }

  async function redeliver() {
    clearError();
    const before = delivery.attemptCount;
    await call('POST', `${path}/redeliver`);
    announce(t('redeliver.sent'));
    const isDone = () => delivery.attemptCount > before;
    // Until it ends, the button sends no second one.
    await screen.until(async () => {
      await load();
      return isDone();
    });
    announce(isDone() ? t('redeliver.done', { response: responseOf(delivery.lastAttempt) }) : t('redeliver.pending'));
  }

  const [ownTable, endpointTable] = [attemptTable(t('attempts'), attempts), attemptTable(t('attempts.of-endpoint'), endpoint)];
  update();
  screen.every(5, load);
  return [
    h('p', { class: 'back' }, h('a', { href: addressOf(webhookId) }, `← ${webhook.body.name}`)),
    h(
      'div',
      { class: 'head' },
      h('div', { class: 'top' }, h('h1', { tabindex: -1 }, type ? eventLabel(type) : delivery.eventName), mark),
      redeliverButton && h('div', { class: 'do' }, redeliverButton),
    ),
    panel(t('delivery'), h('h2', {}, t('delivery')), details),
    panel(
      t('attempts'),
      h('h2', {}, t('attempts')),
      ownTable,
      none,
      endpointTable,
    ),
    panel(
      t('request'),
      h('div', { class: 'head' }, h('h2', {}, t('request')), copyButton(json, t('request.json'))),
      facts([[t('target-url'), copyable(webhook.body.targetUrl, t('target-url'))]], { class: 'settings' }),
      h('p', { class: 'note' }, t('request.note')),
      h('pre', { tabindex: 0, role: 'region', 'aria-label': t('request.json') }, pretty(json)),
    ),
  ];
}

const attemptTable = (name, rows) => table(name, ['no', 'when', 'response', 'latency'], rows);

function attemptRow(attempt, index) {
  const isDelivered = attempt.statusCode >= 200 && attempt.statusCode < 300;
  const advice = adviceFor(attempt);
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, number(index + 1)),
    h('td', {}, time(attempt.at, shortTime)),
    h(
      'td',
      {},
      h('span', { class: `badge ${isDelivered ? 'delivered' : 'failed'}` }, responseOf(attempt)),
      reasonOf(attempt),
      advice && h('small', {}, advice),
      attempt.responseBody && h('details', {}, h('summary', {}, t('receiver-said')), h('pre', { tabindex: 0 }, attempt.responseBody)),
    ),
    h('td', {}, milliseconds(attempt.latencyMs)),
  );
}

/** Return the event's own text, the last field. Parsed and written again, 1.10 would be 1.1. */
const eventText = (text) => text.slice(text.indexOf(',"event":{') + 9, -1);

/** Return the body of a request with this event alone, as `build_body` in `webhook_request` makes it. */
const bodyOf = (account, event) => `{"accountId":${/^(0|[1-9]\d*)$/.test(account) ? account : JSON.stringify(account)},"events":[${event}]}`;

/** The same JSON with a line for each value: only white space outside of strings is changed. */
function pretty(text) {
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  return text.replace(/"(?:[^"\\]|\\.)*"|\[\s*\]|\{\s*\}|[{}[\],:]|\s+|[^\s"{}[\],:]+/g, (part) => {
    if (/^\s+$/.test(part)) return '';
    if (part === '{' || part === '[') {
      depth += 1;
      return part + line();
    }
    if (part === '}' || part === ']') {
      depth -= 1;
      return line() + part;
    }
    if (part === ',') return part + line();
    return part === ':' ? ': ' : part;
  });
}
