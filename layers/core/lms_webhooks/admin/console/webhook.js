// One webhook: its status, settings, deliveries and actions. Its charts are read by pointer, touch and keys, and as a table.
import { historyOf } from './deliveries.js';
import { announce, button, clearError, confirmed, copyable, eventLabel, h, locale, milliseconds, number, panel, relative, s, shortTime, showError, t, table, time } from './dom.js';
import { call, eventTypes } from './session.js';
import { confirmOverlapEnd, hasTwoSecrets, scheduleText, showSecret } from './settings.js';
import { badge, bars, everyHour, facts, fetchStats, OUTCOMES, pendingText, problemOf, responseOf, sampleResult, statusOf, sums } from './status.js';

const SHOWN_EVENTS = 5;
const RANGES = [24, 48, 168];
const WIDTH = 720;
const HEIGHT = 132;
const LEFT = 72;

export async function draw(screen, webhookId) {
  const path = `webhooks/${webhookId}`;
  const [first, types] = await Promise.all([call('GET', path), eventTypes()]);
  let { body: webhook, etag } = first;
  let hours = RANGES[0];

  const heading = h('h1', { tabindex: -1 }, webhook.name);
  const mark = h('span');
  const said = h('span');
  const retry = screen.person.canWrite && button(t('retry'), probe, { class: 'small' });
  const problem = h('p', { class: 'note', hidden: true }, said, ' ', retry);
  const result = h('div', { class: 'result', role: 'status' });
  const tiles = h('div');
  const charts = makeCharts();
  const counted = h('p', { class: 'hint', hidden: true });
  const settings = h('div');
  const pause = button('', () => setStatus(isOn() ? 'paused' : 'active'));
  const retire = button(t('retire'), async () => {
    if (await confirmed(t('retire.title', { name: webhook.name }), t('retire.text'), t('retire'))) await setStatus('inactive');
  });

  let described;

  const isOn = () => webhook.status === 'active' && !webhook.health.disabled;

  /** Act on the webhook as it is shown. If somebody else changed it, show that instead. */
  async function guarded(act) {
    clearError();
    try {
      return await act();
    } catch (problem) {
      if (problem.slug !== 'version-conflict') throw problem;
      await load();
      showError({ detail: t('version-conflict.seen') });
      return undefined;
    }
  }

  async function setStatus(status) {
    const response = await guarded(() => call('PATCH', path, { body: { status }, etag }));
    if (!response) return;
    ({ body: webhook, etag } = response);
    update();
    if (screen.isCurrent) announce(t(`now.${status}`, { name: webhook.name }));
  }

  /** Probe the endpoint now, and say what it responded. */
  async function probe() {
    clearError();
    const newest = () => webhook.health.attempts.at(-1);
    const before = newest()?.at;
    await call('POST', `${path}/retry`);
    announce(t('retry.sent'));
    let attempt;
    await screen.until(async () => {
      await load();
      attempt = newest();
      if (attempt?.at === before) attempt = undefined;
      return attempt || !webhook.health.failingSince;
    });
    announce(attempt ? t(attempt.statusCode >= 200 && attempt.statusCode < 300 ? 'retry.good' : 'retry.bad', { response: responseOf(attempt) }) : t('retry.pending'));
  }

  async function remove() {
    if (!(await confirmed(t('delete.title', { name: webhook.name }), t('delete.text'), t('delete'), { danger: true }))) return;
    await call('DELETE', path);
    if (!screen.isCurrent) return;
    location.hash = '#/';
    announce(t('deleted', { name: webhook.name }), { onNextScreen: true });
  }

  async function test() {
    clearError();
    result.replaceChildren(h('p', {}, t('testing')));
    try {
      const { body } = await call('POST', `${path}/test`, { body: {} });
      result.replaceChildren(...sampleResult(body), button(t('close'), () => result.replaceChildren(), { class: 'small' }));
    } catch (problem) {
      result.replaceChildren();
      throw problem;
    }
  }

  async function rotate() {
    const isWanted = hasTwoSecrets(webhook) ? await confirmOverlapEnd(webhook) : await confirmed(t('rotate.title'), t('rotate.text'), t('generate'));
    const response = isWanted && (await guarded(() => call('POST', `${path}/signature`, { etag })));
    if (!response) return;
    etag = response.etag;
    webhook.authentication.previousSecretExpiresAt = response.body.previousSecretExpiresAt;
    update();
    await showSecret(response.body, webhook.name);
  }

  function update() {
    heading.textContent = webhook.name;
    mark.replaceChildren(badge(statusOf(webhook)));
    const text = problemOf(webhook);
    const isFailing = statusOf(webhook) === 'failing';
    problem.hidden = !text;
    said.replaceChildren(...[text ?? []].flat(2).filter(Boolean));
    if (retry) retry.hidden = !isFailing;
    problem.classList.toggle('bad', isFailing || statusOf(webhook) === 'disabled');
    if (webhook.replay) deliveries.showReplay(webhook.replay);
    pause.textContent = t(isOn() ? 'pause' : webhook.status === 'paused' ? 'resume' : 'activate');
    retire.hidden = webhook.status === 'inactive';
    // Drawn again, a list that is open would close, and a selection would be lost.
    const { health, pending, lastDelivery, replay, ...stable } = webhook;
    if (described === JSON.stringify(stable)) return;
    described = JSON.stringify(stable);
    settings.replaceChildren(facts(describe(webhook, types, rotateButton), { class: 'settings' }));
  }
  const rotateButton = screen.person.canWrite && button(t('rotate'), rotate, { class: 'small' });

  async function load() {
    const response = await call('GET', path);
    if (response.etag === etag && JSON.stringify(response.body) === JSON.stringify(webhook)) return;
    ({ body: webhook, etag } = response);
    update();
  }

  async function loadStats() {
    const stats = await fetchStats(webhookId, hours);
    const all = sums(stats);
    const [pending, lanes] = pendingText(stats.pending);
    tiles.replaceChildren(
      facts(
        [
          [t('status.delivered'), number(all.delivered)],
          [t('status.failed'), number(all.failed)],
          [t('status.expired'), number(all.expired)],
          [t('latency'), all.p50 === undefined ? '–' : milliseconds(all.p50), all.p95 !== undefined && `p95 ${milliseconds(all.p95)}`],
          [t('status.pending'), pending, lanes],
          [t('oldest'), stats.oldestPendingAt ? time(stats.oldestPendingAt) : '–'],
          [t('next-expiry'), stats.nextExpiryAt ? time(stats.nextExpiryAt) : '–'],
          [t('next-batch'), stats.nextBatchAt ? time(stats.nextBatchAt, shortTime) : '–', stats.nextBatchAt && relative(stats.nextBatchAt)],
        ],
        { class: 'tiles' },
      ),
    );
    charts.update(stats);
    counted.hidden = stats.countedFrom <= stats.from;
    counted.replaceChildren(t('counted-from'), ' ', time(stats.countedFrom, shortTime));
  }

  const range = h(
    'select',
    {
      'aria-label': t('range'),
      onchange(event) {
        hours = Number(event.target.value);
        loadStats().catch(showError);
      },
    },
    RANGES.map((each) => h('option', { value: each }, t(`range.${each}`))),
  );

  const deliveries = historyOf(screen, webhookId, types);
  update();
  loadStats().catch(() => {});
  screen.every(4, load);
  screen.every(8, loadStats);
  return [
    h('p', { class: 'back' }, h('a', { href: '#/' }, `← ${t('webhooks')}`)),
    h(
      'div',
      { class: 'head' },
      h('div', { class: 'top' }, heading, mark),
      screen.person.canWrite &&
        h(
          'div',
          { class: 'do' },
          pause,
          button(t('test'), test),
          h('a', { class: 'button', href: `#/${path}/edit` }, t('edit')),
          retire,
          button(t('delete'), remove, { class: 'danger' }),
        ),
    ),
    webhook.description && h('p', { class: 'description' }, webhook.description),
    problem,
    result,
    panel(t('traffic'), h('div', { class: 'head' }, h('h2', {}, t('traffic')), range), tiles, charts.element, counted),
    deliveries.element,
    panel(t('settings'), h('h2', {}, t('settings')), settings),
  ].filter(Boolean);
}

function describe(webhook, types, rotateButton) {
  const { authentication, headers } = webhook;
  const chosen = types.filter((type) => webhook.events.includes(type.eventName));
  const list = h(
    'ul',
    { class: 'plain-list' },
    chosen.map((type) => h('li', {}, eventLabel(type), ' ', h('span', { class: 'tag' }, `[${t(type.category)}]`), ' ', h('code', {}, type.eventName))),
    (webhook.unlistedEvents ?? []).map((name) => h('li', {}, h('code', {}, name), ' ', h('span', { class: 'tag' }, `[${t('events.unlisted')}]`))),
  );
  return [
    [t('webhook-id'), copyable(webhook.webhookId, t('webhook-id'))],
    [t('target-url'), copyable(webhook.targetUrl, t('target-url'))],
    [
      t('authentication'),
      [t(`auth.${authentication.type}`), authentication.username && ` (${authentication.username})`, authentication.type === 'signature' && rotateButton && [' ', rotateButton]],
      hasTwoSecrets(webhook) && [t('secret.previous'), ' ', time(authentication.previousSecretExpiresAt, shortTime)],
    ],
    [t('events'), webhook.events.length > SHOWN_EVENTS ? h('details', {}, h('summary', {}, t('events.chosen', { n: webhook.events.length })), list) : list],
    [t('schedule'), scheduleText(webhook.batchSchedule)],
    [t('order'), t(webhook.ordered ? 'order.kept' : 'order.free')],
    webhook.keepResponseBodies && [t('bodies'), t('bodies.kept')],
    Object.keys(headers).length > 0 && [t('headers'), h('ul', { class: 'plain-list' }, Object.entries(headers).map(([name, value]) => h('li', {}, h('code', {}, `${name}: ${value}`))))],
    [t('created'), [time(webhook.createdAt, shortTime), `, ${webhook.createdBy}`]],
    [t('updated'), [time(webhook.updatedAt, shortTime), `, ${webhook.updatedBy} `, h('a', { href: `#/activity?webhookId=${webhook.webhookId}` }, t('activity'))]],
  ];
}

// Charts

const write = (at, options) => new Intl.DateTimeFormat(locale, options).format(at);

/** Name an hour at the axis: as short as the language allows, for eight of them stand beside each other. */
function axisName(at, isLong) {
  if (isLong) return write(at, { weekday: 'short', day: 'numeric' });
  const { hour12 } = new Intl.DateTimeFormat(locale, { hour: 'numeric' }).resolvedOptions();
  return write(at, hour12 ? { hour: 'numeric' } : { hour: '2-digit', minute: '2-digit' });
}

function zone() {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  const short = new Intl.DateTimeFormat(locale, { timeZoneName: 'short' }).formatToParts().find(({ type }) => type === 'timeZoneName').value;
  return short === timeZone ? short : `${timeZone} (${short})`;
}

function axes(hours, top) {
  const step = (WIDTH - LEFT) / hours.length;
  const isLong = hours.length > 48;
  const every = isLong ? 24 : Math.ceil(hours.length / 8);
  const named = hours
    .map((hour, index) => [hour, index])
    .filter(([hour, index]) => (isLong ? new Date(hour.at).getHours() === 0 : index % every === 0));
  return [
    [0, 0.5, 1].map((part) => [
      s('line', { x1: LEFT, x2: WIDTH, y1: 4 + HEIGHT * (1 - part), y2: 4 + HEIGHT * (1 - part) }),
      (part === 0 || top(part)) && s('text', { x: LEFT - 6, y: 8 + HEIGHT * (1 - part), 'text-anchor': 'end' }, part === 0 ? '0' : top(part)),
    ]),
    named.map(([hour, index], place) =>
      s('text', { class: place % 2 ? 'wide' : undefined, x: LEFT + index * step, y: HEIGHT + 24, 'text-anchor': index > hours.length * 0.92 && 'end' }, axisName(hour.at, isLong)),
    ),
  ];
}

function latencies(hours, most) {
  const step = (WIDTH - LEFT) / hours.length;
  return ['p95', 'p50'].map((name) => {
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
}

/** Make a chart whose hours are read by pointer, by touch and by the arrow keys. `say` puts one hour into words. */
function makeChart(title, names, say) {
  const svg = s('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT + 26}`, role: 'img' });
  const cursor = s('line', { class: 'cursor', y1: 4, y2: HEIGHT + 4 });
  const readout = h('p', { class: 'readout', 'aria-hidden': 'true' });
  const picker = h('input', { type: 'range', min: 0, step: 1, 'aria-label': t('chart.pick', { title }) });
  let hours = [];

  function pick(index) {
    const hour = hours[index];
    if (!hour) return;
    picker.value = index;
    readout.textContent = `${write(hour.at, { weekday: 'short', hour: 'numeric', minute: '2-digit' })}: ${say(hour)}`;
    picker.setAttribute('aria-valuetext', readout.textContent);
    const x = LEFT + ((index + 0.5) * (WIDTH - LEFT)) / hours.length;
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    svg.append(cursor);
  }
  /** Show the last hour, as long as none is picked. */
  function unpick() {
    pick(hours.length - 1);
    cursor.remove();
  }
  function follow({ clientX }) {
    const { left, width } = picker.getBoundingClientRect();
    pick(Math.min(hours.length - 1, Math.max(0, Math.floor(((clientX - left) / width) * hours.length))));
  }
  picker.addEventListener('input', () => pick(Number(picker.value)));
  picker.addEventListener('focus', () => pick(Number(picker.value)));
  picker.addEventListener('blur', unpick);
  picker.addEventListener('pointerdown', follow);
  picker.addEventListener('pointermove', follow);
  picker.addEventListener('pointerleave', () => document.activeElement !== picker && unpick());

  const legend = h('p', { class: 'legend', 'aria-hidden': 'true' }, names.map(([name, label]) => h('span', { class: name }, label)));
  return {
    element: h('figure', {}, h('figcaption', {}, title, legend), h('div', { class: 'plot' }, svg, picker), readout),
    update(now, summary, top, drawn) {
      const isPicked = cursor.isConnected && hours.length === now.length;
      hours = now;
      svg.setAttribute('aria-label', summary);
      picker.max = hours.length - 1;
      svg.replaceChildren(...[axes(hours, top), s('g', { transform: `translate(${LEFT} 4)` }, drawn)].flat(3).filter(Boolean));
      if (isPicked) pick(Number(picker.value));
      else unpick();
    },
  };
}

/** Make the charts and the table. `update` draws them for new stats, and moves no focus. */
function makeCharts() {
  const names = OUTCOMES.map((name) => [name, t(`status.${name}`)]);
  const latencyNames = ['p50', 'p95'].map((name) => [name, t(name)]);
  const sayLatency = ({ latencyMs }) => (latencyMs ? latencyNames.map(([name, label]) => `${label} ${milliseconds(latencyMs[name])}`).join(', ') : '–');
  const deliveries = makeChart(t('chart.deliveries'), names, (hour) => names.map(([name, label]) => `${label} ${number(hour[name])}`).join(', '));
  const latency = makeChart(t('chart.latency'), latencyNames, sayLatency);
  const rows = h('tbody');
  const nothing = h('p', {}, t('chart.nothing'));
  const region = h(
    'div',
    { class: 'scroll', role: 'region', tabindex: 0, 'aria-label': t('chart.table') },
    table(t('traffic'), ['when', ...OUTCOMES.map((name) => `status.${name}`), 'p50', 'p95'], rows),
  );
  return {
    element: h(
      'div',
      {},
      h('div', { class: 'charts' }, deliveries.element, latency.element),
      h('p', { class: 'hint' }, t('zone', { zone: zone() })),
      h('details', {}, h('summary', {}, t('chart.table')), nothing, region),
    ),
    update(stats) {
      const hours = everyHour(stats);
      const all = sums(stats);
      const most = Math.max(1, ...hours.map((hour) => hour.delivered + hour.failed + hour.expired));
      const slowest = Math.max(1, ...hours.map((hour) => hour.latencyMs?.p95 ?? 0));
      deliveries.update(
        hours,
        t('chart.said', { delivered: number(all.delivered), failed: number(all.failed), expired: number(all.expired) }),
        (part) => (most * part === Math.round(most * part) ? number(most * part) : ''),
        bars(hours, WIDTH - LEFT, HEIGHT),
      );
      latency.update(
        hours,
        all.p95 === undefined ? t('chart.no-latency') : t('chart.latency-said', { p50: milliseconds(all.p50), p95: milliseconds(all.p95) }),
        (part) => (slowest * part < 1 ? '' : milliseconds(Math.round(slowest * part))),
        latencies(hours, slowest),
      );
      nothing.hidden = stats.hours.length > 0;
      region.hidden = stats.hours.length === 0;
      rows.replaceChildren(
        ...stats.hours.map((hour) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, time(hour.startsAt, shortTime)),
            OUTCOMES.map((name) => h('td', {}, number(hour[name]))),
            latencyNames.map(([name]) => h('td', {}, hour.latencyMs ? milliseconds(hour.latencyMs[name]) : '–')),
          ),
        ),
      );
    },
  };
}
