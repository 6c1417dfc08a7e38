// One delivery: the request with this event alone, and the result of each attempt.
import { announce, button, clearError, errorText, eventLabel, fullTime, h, milliseconds, number, shortTime, t, time } from './dom.js';
import { reasonOf, responseOf } from './history.js';
import { call, eventTypes } from './session.js';
import { facts, outcomeBadge } from './status.js';

const PATIENCE_MS = 60_000;

export async function draw(screen, webhookId, deliveryId) {
  const path = `webhooks/${webhookId}/deliveries/${deliveryId}`;
  const [response, webhook, types] = await Promise.all([
    call('GET', path),
    call('GET', `webhooks/${webhookId}`),
    eventTypes(),
  ]);
  let delivery = response.body;
  const type = types.find((each) => each.eventName === delivery.eventName);
  const mark = h('span');
  const details = h('div');
  const attempts = h('tbody');
  const none = h('p', { class: 'empty' }, t('attempts.none'));

  function update() {
    mark.replaceChildren(outcomeBadge(delivery.status));
    details.replaceChildren(
      facts(
        [
          [t('event-id'), h('code', {}, delivery.eventId)],
          [t('occurred'), time(delivery.occurredAt, fullTime)],
          [t('accepted'), time(delivery.acceptedAt, fullTime)],
          delivery.reason && [t('reason'), delivery.reason],
          delivery.nextAttemptAt && [t('next-attempt'), time(delivery.nextAttemptAt, shortTime)],
        ],
        { class: 'settings' },
      ),
    );
    none.hidden = delivery.attempts.length > 0;
    attempts.replaceChildren(
      ...delivery.attempts.map((attempt, index) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, number(index + 1)),
          h('td', {}, time(attempt.at, shortTime)),
          h('td', {}, h('span', { class: `badge ${attempt.statusCode >= 200 && attempt.statusCode < 300 ? 'delivered' : 'failed'}` }, responseOf(attempt)), reasonOf(attempt)),
          h('td', {}, milliseconds(attempt.latencyMs)),
        ),
      ),
    );
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
    const stopAt = Date.now() + PATIENCE_MS;
    const stop = screen.every(1, async () => {
      await load();
      if (delivery.attemptCount > before) {
        stop();
        const { statusCode, errorClass, reason } = delivery.lastAttempt;
        announce(t('redeliver.done', { response: statusCode ?? errorText(errorClass, reason) }));
      } else if (Date.now() > stopAt) {
        stop();
        announce(t('redeliver.pending'));
      }
    });
  }

  update();
  screen.every(5, load);
  return [
    h('p', { class: 'back' }, h('a', { href: `#/webhooks/${webhookId}` }, `← ${t('back')}`)),
    h(
      'div',
      { class: 'head' },
      h('div', { class: 'top' }, h('h1', { tabindex: -1 }, type ? eventLabel(type) : delivery.eventName), mark),
      screen.person.canWrite && h('div', { class: 'do' }, button(t('redeliver'), redeliver, { class: 'primary' })),
    ),
    h('section', { class: 'panel', 'aria-label': t('delivery') }, h('h2', {}, t('delivery')), details),
    h(
      'section',
      { class: 'panel', 'aria-label': t('attempts') },
      h('h2', {}, t('attempts')),
      h('table', {}, h('caption', { class: 'unseen' }, t('attempts')), h('thead', {}, h('tr', {}, ['no', 'when', 'response', 'latency'].map((key) => h('th', { scope: 'col' }, t(key))))), attempts),
      none,
    ),
    h(
      'section',
      { class: 'panel', 'aria-label': t('request') },
      h('h2', {}, t('request')),
      facts([[t('target-url'), h('code', {}, webhook.body.targetUrl)]], { class: 'settings' }),
      h('p', { class: 'note' }, t('request.note')),
      h('pre', { tabindex: 0, role: 'region', 'aria-label': t('request.json') }, pretty(bodyOf(screen.person.account, eventText(response.text)))),
    ),
  ];
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
