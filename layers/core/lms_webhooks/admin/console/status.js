// The status of a webhook, what its receiver responded, and what to do then.
import { atLeast, copyButton, errorText, h, isWord, milliseconds, number, rule, s, shortTime, t, time } from './dom.js';
import { call } from './session.js';

const HOUR_MS = 3_600_000;
export const OUTCOMES = ['delivered', 'failed', 'expired'];

/** Return one word for status and health: what an admin should know first. */
export function statusOf({ status, health, pending, lastDelivery }) {
  if (health.disabled) return 'disabled';
  if (status !== 'active') return status;
  if (health.failingSince) return 'failing';
  if (health.mode === 'backlog' && pending.count) return 'catching-up';
  return lastDelivery ? 'healthy' : 'new';
}

export const badge = (name) => h('span', { class: `badge ${name}` }, t(`is.${name}`));

export const outcomeBadge = (status) => h('span', { class: `badge ${status}` }, t(`status.${status}`));

const REASONS = {
  301: 'Moved Permanently', 302: 'Found', 307: 'Temporary Redirect', 308: 'Permanent Redirect', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found',
  405: 'Method Not Allowed', 408: 'Request Timeout', 409: 'Conflict', 410: 'Gone', 413: 'Content Too Large', 415: 'Unsupported Media Type', 422: 'Unprocessable Content',
  429: 'Too Many Requests', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
};

/** Name what an attempt met: `401 Unauthorized`, or the class of the error. */
export const responseOf = ({ statusCode, errorClass }) => (statusCode ? `${statusCode} ${REASONS[statusCode] ?? ''}`.trim() : t(`error.${errorClass}`));

/** Say what to do about it, if there is something. */
export function adviceFor({ statusCode, errorClass }) {
  const alike = { 403: 401, 405: 404 }[statusCode] ?? statusCode;
  const name = [alike, `${String(statusCode)[0]}xx`, errorClass].find((each) => isWord(`advice.${each}`));
  return name && t(`advice.${name}`);
}

/** Describe the result of a test, where it was asked for. */
export function sampleResult(result) {
  const { delivered, statusCode, latencyMs, reason, location, request } = result;
  const response = responseOf(result);
  const next = location ? t('test.location', { location }) : !delivered && adviceFor(result);
  return [
    h('p', { class: delivered ? 'good' : 'bad' }, t(delivered ? 'test.good' : 'test.bad', { response, time: milliseconds(latencyMs) })),
    (reason || next) && h('p', {}, [reason && `${t('reason')}: ${rule(reason)}.`, next].filter(Boolean).join(' ')),
    exchange(t('request'), `POST ${request.url}`, request.headers, request.body),
    statusCode && exchange(t('receiver-said'), `HTTP ${response}`, result.responseHeaders ?? {}, result.responseBody, !delivered),
  ].filter(Boolean);
}

/** Show one half of an exchange as it went over the wire. */
function exchange(title, first, headers, body = '', open = false) {
  const text = [first, ...Object.entries(headers).map((pair) => pair.join(': ')), '', body].join('\n').trim();
  return h('details', { open }, h('summary', {}, title), h('div', { class: 'head' }, h('pre', { tabindex: 0, role: 'region', 'aria-label': title }, text), copyButton(text, title)));
}

/** Health keeps `HTTP 503`, or the class of an error, with its reason after a colon. */
function lastError(text) {
  const [name, ...reason] = text.split(': ');
  const attempt = text.startsWith('HTTP ') ? { statusCode: Number(text.slice(5)) } : { errorClass: name };
  const said = attempt.statusCode ? `HTTP ${responseOf(attempt)}` : isWord(`error.${name}`) ? errorText(name, reason.join(': ')) : text;
  const advice = adviceFor(attempt);
  return [h('b', {}, said), '. ', advice && `${advice} `];
}

/** Describe what is wrong, since when, and what comes next; undefined when all is well. */
export function problemOf(webhook) {
  const { health, pending } = webhook;
  switch (statusOf(webhook)) {
    case 'disabled':
      return [t(`disabled.${health.disabled.reason}`), ' ', time(health.disabled.at), '. ', t('disabled.then')];
    case 'failing':
      return [
        t('failing.since'), ' ', time(health.failingSince), ': ', lastError(health.lastError ?? '?'),
        health.nextAttemptAt && [t('failing.next'), ' ', time(health.nextAttemptAt, shortTime), '. '],
        pending.count ? t('failing.pending', { n: pending.count, count: atLeast(pending) }) : '',
      ];
    case 'new':
      return [t('new.note')];
    case 'paused':
      return [t('paused.note')];
    case 'inactive':
      return [t('inactive.note')];
    default:
      return undefined;
  }
}

export const fetchStats = async (webhookId, hours = 24) => (await call('GET', `webhooks/${webhookId}/stats?hours=${hours}`)).body;

/** Add up the hours. Latency is the median of their medians, and their highest p95. */
export function sums(stats) {
  const total = Object.fromEntries(OUTCOMES.map((name) => [name, stats.hours.reduce((sum, hour) => sum + hour[name], 0)]));
  const measured = stats.hours.filter((hour) => hour.latencyMs);
  const medians = measured.map((hour) => hour.latencyMs.p50).sort((one, other) => one - other);
  return { ...total, p50: medians[medians.length >> 1], p95: measured.length ? Math.max(...measured.map((hour) => hour.latencyMs.p95)) : undefined };
}

/** Every hour of the stats, oldest first, those without a record too. */
export function everyHour(stats) {
  const known = new Map(stats.hours.map((hour) => [Date.parse(hour.startsAt), hour]));
  const hours = [];
  const first = Math.floor(Date.parse(stats.from) / HOUR_MS) * HOUR_MS;
  for (let at = first; at < Date.parse(stats.to); at += HOUR_MS) {
    hours.push({ at, delivered: 0, failed: 0, expired: 0, ...known.get(at) });
  }
  return hours;
}

export function bars(hours, width, height) {
  const most = Math.max(1, ...hours.map((hour) => hour.delivered + hour.failed + hour.expired));
  const step = width / hours.length;
  const gap = step > 4 ? step * 0.22 : 0.5;
  return hours.map((hour, index) => {
    let top = height;
    return OUTCOMES.map((name) => {
      if (!hour[name]) return undefined;
      const size = Math.max(1.5, (hour[name] / most) * height);
      top -= size;
      return s('rect', { class: name, x: index * step + gap / 2, y: Math.max(0, top), width: step - gap, height: size });
    });
  });
}

/** Draw the last day. The numbers beside it are for screen readers. */
export function spark(stats) {
  return s(
    'svg',
    { class: 'spark', viewBox: '0 0 120 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('line', { x1: 0, x2: 120, y1: 27.5, y2: 27.5 }),
    bars(everyHour(stats), 120, 27),
  );
}

/** Names and values, as a list that screen readers know as one. */
export const facts = (pairs, properties) =>
  h('dl', properties, pairs.filter(Boolean).map(([name, value, extra]) => h('div', {}, h('dt', {}, name), h('dd', {}, value, extra && h('small', {}, extra)))));

/** Describe how many events are pending, in all and by lane. */
export const pendingText = (pending) => [
  atLeast(pending),
  Object.entries(pending.lanes).map(([lane, count]) => `${t(`lane.${lane}`)} ${atLeast({ atLeast: false, ...count })}`).join(', '),
];
