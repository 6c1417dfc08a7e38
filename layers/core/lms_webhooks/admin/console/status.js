// The status of a webhook, as a badge and as charts by the hour.
import { words } from './en.js';
import { atLeast, errorText, h, locale, milliseconds, number, s, shortTime, t, time } from './dom.js';
import { call } from './session.js';

const HOUR_MS = 3_600_000;
const OUTCOMES = ['delivered', 'failed', 'expired'];

/** Return one word for status and health: what an admin should know first. */
export function statusOf({ status, health, pending }) {
  if (health.disabled) return 'disabled';
  if (status !== 'active') return status;
  if (health.failingSince) return 'failing';
  return health.mode === 'backlog' && pending.count ? 'catching-up' : 'healthy';
}

export const badge = (name) => h('span', { class: `badge ${name}` }, t(`is.${name}`));

export const outcomeBadge = (status) => h('span', { class: `badge ${status}` }, t(`status.${status}`));

/** Health keeps `HTTP 503`, or the class of an error, with its reason after a colon. */
function lastError(text) {
  const [name, ...reason] = text.split(': ');
  return `error.${name}` in words ? errorText(name, reason.join(': ')) : text;
}

/** Describe what is wrong, since when, and what comes next; undefined when all is well. */
export function problemOf(webhook) {
  const { health, pending } = webhook;
  switch (statusOf(webhook)) {
    case 'disabled':
      return [t(`disabled.${health.disabled.reason}`), ' ', time(health.disabled.at), '. ', t('disabled.then')];
    case 'failing':
      return [
        t('failing.since'), ' ', time(health.failingSince), ': ', h('b', {}, lastError(health.lastError ?? '?')), '. ',
        health.nextAttemptAt && [t('failing.next'), ' ', time(health.nextAttemptAt, shortTime), '. '],
        pending.count ? t('failing.pending', { n: pending.count }) : '',
      ];
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
function everyHour(stats) {
  const known = new Map(stats.hours.map((hour) => [Date.parse(hour.startsAt), hour]));
  const hours = [];
  const first = Math.floor(Date.parse(stats.from) / HOUR_MS) * HOUR_MS;
  for (let at = first; at < Date.parse(stats.to); at += HOUR_MS) {
    hours.push({ at, delivered: 0, failed: 0, expired: 0, ...known.get(at) });
  }
  return hours;
}

function bars(hours, width, height) {
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

const WIDTH = 720;
const HEIGHT = 132;
const LEFT = 72;

const hourName = (at, isLong) => new Intl.DateTimeFormat(locale, isLong ? { weekday: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit' }).format(at);

function frame(label, hours, top, content) {
  const step = (WIDTH - LEFT) / hours.length;
  const isLong = hours.length > 48;
  const every = isLong ? 24 : Math.ceil(hours.length / 8);
  const named = hours
    .map((hour, index) => [hour, index])
    .filter(([hour, index]) => (isLong ? new Date(hour.at).getHours() === 0 : index % every === 0));
  return s(
    'svg',
    { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT + 26}`, role: 'img', 'aria-label': label },
    [0, 0.5, 1].map((part) => [
      s('line', { x1: LEFT, x2: WIDTH, y1: 4 + HEIGHT * (1 - part), y2: 4 + HEIGHT * (1 - part) }),
      (part === 0 || top.at(part)) && s('text', { x: LEFT - 6, y: 8 + HEIGHT * (1 - part), 'text-anchor': 'end' }, part === 0 ? '0' : top.at(part)),
    ]),
    named.map(([hour, index], place) => s('text', { class: place % 2 ? 'wide' : undefined, x: LEFT + index * step, y: HEIGHT + 24 }, hourName(hour.at, isLong))),
    s('g', { transform: `translate(${LEFT} 4)` }, content),
  );
}

function latencies(hours) {
  const most = Math.max(1, ...hours.map((hour) => hour.latencyMs?.p95 ?? 0));
  const step = (WIDTH - LEFT) / hours.length;
  const lines = ['p95', 'p50'].map((name) => {
    const points = hours
      .map((hour, index) => hour.latencyMs && [(index + 0.5) * step, HEIGHT - (hour.latencyMs[name] / most) * HEIGHT])
      .filter(Boolean);
    return s(
      'g',
      { class: name },
      s('polyline', { points: points.map((point) => point.map((each) => each.toFixed(1)).join()).join(' ') }),
      points.map(([x, y]) => s('circle', { cx: x.toFixed(1), cy: y.toFixed(1), r: 2.5 })),
    );
  });
  return [lines, most];
}

const legend = (names) => h('p', { class: 'legend', 'aria-hidden': 'true' }, names.map(([name, label]) => h('span', { class: name }, label)));

/** Deliveries and latency, drawn and as a table. */
export function charts(stats) {
  const hours = everyHour(stats);
  const all = sums(stats);
  const most = Math.max(1, ...hours.map((hour) => hour.delivered + hour.failed + hour.expired));
  const [lines, slowest] = latencies(hours);
  const names = OUTCOMES.map((name) => [name, t(`status.${name}`)]);
  return [
    h(
      'div',
      { class: 'charts' },
      h(
        'figure',
        {},
        h('figcaption', {}, t('chart.deliveries'), legend(names)),
        frame(
          t('chart.said', { delivered: number(all.delivered), failed: number(all.failed), expired: number(all.expired) }),
          hours,
          { at: (part) => (most * part === Math.round(most * part) ? number(most * part) : '') },
          bars(hours, WIDTH - LEFT, HEIGHT),
        ),
      ),
      h(
        'figure',
        {},
        h('figcaption', {}, t('chart.latency'), legend([['p50', t('p50')], ['p95', t('p95')]])),
        frame(
          all.p95 === undefined ? t('chart.no-latency') : t('chart.latency-said', { p50: milliseconds(all.p50), p95: milliseconds(all.p95) }),
          hours,
          { at: (part) => (slowest * part < 1 ? '' : milliseconds(Math.round(slowest * part))) },
          lines,
        ),
      ),
    ),
    h(
      'details',
      {},
      h('summary', {}, t('chart.table')),
      stats.hours.length === 0
        ? h('p', {}, t('chart.nothing'))
        : h(
            'div',
            { class: 'scroll', role: 'region', tabindex: 0, 'aria-label': t('chart.table') },
            h(
              'table',
              {},
              h('thead', {}, h('tr', {}, [t('hour'), ...names.map(([, label]) => label), t('p50'), t('p95')].map((label) => h('th', { scope: 'col' }, label)))),
              h(
                'tbody',
                {},
                stats.hours.map((hour) =>
                  h(
                    'tr',
                    {},
                    h('th', { scope: 'row' }, time(hour.startsAt, shortTime)),
                    OUTCOMES.map((name) => h('td', {}, number(hour[name]))),
                    ['p50', 'p95'].map((name) => h('td', {}, hour.latencyMs ? milliseconds(hour.latencyMs[name]) : '–')),
                  ),
                ),
              ),
            ),
          ),
    ),
  ];
}

/** Names and values, as a list that screen readers know as one. */
export const facts = (pairs, properties) =>
  h('dl', properties, pairs.filter(Boolean).map(([name, value, extra]) => h('div', {}, h('dt', {}, name), h('dd', {}, value, extra && h('small', {}, extra)))));

/** Describe how many events are pending, in all and by lane. */
export const pendingText = (pending) => [
  atLeast(pending),
  Object.entries(pending.lanes).map(([lane, count]) => `${t(`lane.${lane}`)} ${atLeast({ atLeast: false, ...count })}`).join(', '),
];
