// One webhook: its status, settings, deliveries and actions.
import { announce, button, clearError, confirmed, dialog, download, eventLabel, fullTime, h, milliseconds, number, relative, rule, shortTime, t, time } from './dom.js';
import { historyOf } from './history.js';
import { scheduleText } from './schedule.js';
import { call, eventTypes } from './session.js';
import { badge, charts, facts, fetchStats, pendingText, problemOf, statusOf, sums } from './status.js';

const RANGES = [24, 48, 168];

export async function draw(screen, webhookId) {
  const path = `webhooks/${webhookId}`;
  const [first, types] = await Promise.all([call('GET', path), eventTypes()]);
  let { body: webhook, etag } = first;
  let hours = RANGES[0];

  const heading = h('h1', { tabindex: -1 }, webhook.name);
  const mark = h('span');
  const problem = h('p', { class: 'note', hidden: true });
  const tiles = h('div');
  const drawn = h('div');
  const settings = h('div');
  const pause = button('', () => setStatus(isOn() ? 'paused' : 'active'));
  const retire = button(t('retire'), async () => {
    if (await confirmed(t('retire.title', { name: webhook.name }), t('retire.text'), t('retire'))) await setStatus('inactive');
  });

  const isOn = () => webhook.status === 'active' && !webhook.health.disabled;

  async function setStatus(status) {
    clearError();
    ({ body: webhook, etag } = await call('PATCH', path, { body: { status }, etag }));
    update();
    announce(t(`now.${status}`, { name: webhook.name }));
  }

  async function remove() {
    if (!(await confirmed(t('delete.title', { name: webhook.name }), t('delete.text'), t('delete'), { danger: true }))) return;
    await call('DELETE', path);
    location.hash = '#/';
    announce(t('deleted', { name: webhook.name }));
  }

  async function test() {
    clearError();
    announce(t('testing'));
    const { body } = await call('POST', `${path}/test`, { body: {} });
    announce(sampleResultText(body));
  }

  async function rotate() {
    const isWanted = hasTwoSecrets(webhook) ? await confirmOverlapEnd(webhook) : await confirmed(t('rotate.title'), t('rotate.text'), t('generate'));
    if (!isWanted) return;
    clearError();
    const response = await call('POST', `${path}/signature`, { etag });
    etag = response.etag;
    webhook.authentication.previousSecretExpiresAt = response.body.previousSecretExpiresAt;
    await showSecret(response.body, webhook.name);
  }

  function update() {
    heading.textContent = webhook.name;
    mark.replaceChildren(badge(statusOf(webhook)));
    const said = problemOf(webhook);
    problem.hidden = !said;
    problem.replaceChildren(...[said ?? []].flat(2).filter(Boolean));
    problem.classList.toggle('bad', ['failing', 'disabled'].includes(statusOf(webhook)));
    pause.textContent = t(isOn() ? 'pause' : webhook.status === 'paused' ? 'resume' : 'activate');
    retire.hidden = webhook.status === 'inactive';
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
          [t('pending'), pending, lanes],
          [t('oldest'), stats.oldestPendingAt ? time(stats.oldestPendingAt) : '–'],
          [t('next-expiry'), stats.nextExpiryAt ? time(stats.nextExpiryAt) : '–'],
          [t('next-batch'), stats.nextBatchAt ? time(stats.nextBatchAt, shortTime) : '–', stats.nextBatchAt && relative(stats.nextBatchAt)],
        ],
        { class: 'tiles' },
      ),
    );
    const wasOpen = drawn.querySelector('details')?.open;
    // Redrawn under the keyboard, the table would lose the focus; it can wait.
    if (drawn.contains(document.activeElement)) return;
    drawn.replaceChildren(
      ...charts(stats),
      stats.countedFrom > stats.from ? h('p', { class: 'hint' }, t('counted-from'), ' ', time(stats.countedFrom, shortTime)) : '',
    );
    if (wasOpen) drawn.querySelector('details').open = true;
  }

  const range = h(
    'select',
    {
      'aria-label': t('range'),
      onchange(event) {
        hours = Number(event.target.value);
        loadStats().catch(() => {});
      },
    },
    RANGES.map((each) => h('option', { value: each }, t(`range.${each}`))),
  );

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
    h('section', { 'aria-label': t('activity'), class: 'panel' }, h('div', { class: 'head' }, h('h2', {}, t('activity')), range), tiles, drawn),
    historyOf(screen, webhookId, types),
    h('section', { 'aria-label': t('settings'), class: 'panel' }, h('h2', {}, t('settings')), settings),
  ].filter(Boolean);
}

export const sampleResultText = ({ delivered, statusCode, latencyMs, errorClass, reason, location }) =>
  [
    t(delivered ? 'test.good' : 'test.bad', { response: statusCode ?? t(`error.${errorClass}`), time: milliseconds(latencyMs) }),
    reason && `${t('reason')}: ${rule(reason)}.`,
    location && t('test.location', { location }),
  ].filter(Boolean).join(' ');

function describe(webhook, types, rotateButton) {
  const { authentication, headers } = webhook;
  const chosen = types.filter((type) => webhook.events.includes(type.eventName));
  return [
    [t('target-url'), h('code', {}, webhook.targetUrl)],
    [
      t('authentication'),
      [t(`auth.${authentication.type}`), authentication.username && ` (${authentication.username})`, authentication.type === 'signature' && rotateButton && [' ', rotateButton]],
    ],
    [
      t('events'),
      h(
        'ul',
        { class: 'plain-list' },
        chosen.map((type) => h('li', {}, eventLabel(type), ' ', h('span', { class: 'tag' }, `[${t(type.category)}]`), ' ', h('code', {}, type.eventName))),
        (webhook.unlistedEvents ?? []).map((name) => h('li', {}, h('code', {}, name), ' ', h('span', { class: 'tag' }, `[${t('events.unlisted')}]`))),
      ),
    ],
    [t('schedule'), scheduleText(webhook.batchSchedule)],
    [t('order'), t(webhook.ordered ? 'order.kept' : 'order.free')],
    Object.keys(headers).length > 0 && [t('headers'), h('ul', { class: 'plain-list' }, Object.entries(headers).map(([name, value]) => h('li', {}, h('code', {}, `${name}: ${value}`))))],
    [t('created'), [time(webhook.createdAt, shortTime), `, ${webhook.createdBy}`]],
    [t('updated'), [time(webhook.updatedAt, shortTime), `, ${webhook.updatedBy}`]],
  ];
}

/** Whether two secrets sign. A new one would end the older of them at once. */
export const hasTwoSecrets = ({ authentication }) => new Date(authentication.previousSecretExpiresAt ?? 0) > new Date();

export const confirmOverlapEnd = ({ authentication }) => confirmed(t('rotate.title'), t('rotate.overlap', { time: fullTime(authentication.previousSecretExpiresAt) }), t('generate'), { danger: true });

/** Show the secret, the only time that it can be seen. */
export async function showSecret(secret, name) {
  const shown = h('input', { readonly: true, value: secret.secret, 'aria-label': t('secret'), class: 'code', onfocus: (event) => event.target.select() });
  await dialog(
    t('secret.title'),
    [
      h('p', {}, t('secret.text', { name })),
      shown,
      secret.previousSecretExpiresAt && h('p', { class: 'hint' }, t('secret.previous'), ' ', time(secret.previousSecretExpiresAt, shortTime), '.'),
    ],
    (close) => [
      button(t('copy'), async () => {
        shown.select();
        await navigator.clipboard.writeText(secret.secret);
        announce(t('copied'));
      }),
      button(t('download'), () => download(`${secret.webhookId}-signing-secret.json`, secret), { class: 'primary' }),
      button(t('done'), () => close('')),
    ],
  );
}
