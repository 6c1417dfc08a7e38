// The webhooks of the account, each with its status.
import { announce, atLeast, button, clearError, h, milliseconds, number, t } from './dom.js';
import { call } from './session.js';
import { badge, facts, fetchStats, problemOf, spark, statusOf, sums } from './status.js';

const MOST = 5;

export async function draw(screen) {
  const list = h('ul', { class: 'cards' });
  const summary = h('p', { class: 'summary' });
  const add = screen.person.canWrite && h('a', { class: 'button primary', href: '#/new' }, t('add'));
  const cards = new Map();

  async function load() {
    const { webhooks } = (await call('GET', 'webhooks')).body;
    const known = webhooks.map(statusOf);
    const counted = ['healthy', 'catching-up', 'failing', 'disabled', 'new', 'paused', 'inactive']
      .map((name) => [name, known.filter((each) => each === name).length])
      .filter(([, n]) => n);
    summary.replaceChildren(
      h('b', {}, t('used', { n: webhooks.length, most: MOST })),
      ...counted.map(([name, n]) => h('span', { class: `badge ${name}` }, `${number(n)} ${t(`is.${name}`, { n }).toLowerCase()}`)),
    );
    if (add) {
      const isFull = webhooks.length >= MOST;
      // It stays reachable by keyboard, and says why it is disabled.
      add.setAttribute('aria-disabled', String(isFull));
      if (isFull) add.removeAttribute('href');
      else add.setAttribute('href', '#/new');
      add.title = isFull ? t('full') : '';
    }
    const ids = new Set(webhooks.map((each) => each.webhookId));
    for (const [id, card] of cards) if (!ids.has(id)) (card.element.remove(), cards.delete(id));
    for (const webhook of webhooks) {
      if (!cards.has(webhook.webhookId)) {
        const card = makeCard(screen, webhook, load);
        cards.set(webhook.webhookId, card);
        list.append(card.element);
      }
      cards.get(webhook.webhookId).update(webhook);
    }
    empty.hidden = webhooks.length > 0;
  }

  async function loadStats() {
    await Promise.all([...cards].map(async ([id, card]) => card.updateStats(await fetchStats(id))));
  }

  const empty = h(
    'div',
    { class: 'empty', hidden: true },
    h('h2', {}, t('empty')),
    h('p', {}, t('empty.text')),
    h('ol', {}, ['1', '2', '3'].map((step) => h('li', {}, t(`empty.${step}`)))),
    h('p', {}, h('a', { href: '#/event-types' }, t('types.see'))),
  );
  await load();
  loadStats().catch(() => {});
  screen.every(5, load);
  screen.every(20, loadStats);
  return [
    h('div', { class: 'head' }, h('h1', { tabindex: -1 }, t('webhooks')), add),
    summary,
    !screen.person.canWrite && h('p', { class: 'note' }, t('reader')),
    list,
    empty,
  ].filter(Boolean);
}

/** Make the card of one webhook. Updates keep its buttons, and so the focus. */
function makeCard(screen, { webhookId }, reload) {
  const name = h('a', { href: `#/webhooks/${webhookId}` });
  const mark = h('span');
  const url = h('p', { class: 'url' });
  const problem = h('p', { class: 'note', hidden: true });
  const numbers = h('div', { class: 'numbers' });
  const pause = screen.person.canWrite && button('', toggle);
  const edit = screen.person.canWrite && h('a', { class: 'button', href: `#/webhooks/${webhookId}/edit` }, t('edit'));
  let current;

  async function toggle() {
    clearError();
    const isOn = current.status === 'active' && !current.health.disabled;
    const status = isOn ? 'paused' : 'active';
    await call('PATCH', `webhooks/${webhookId}`, { body: { status } });
    announce(t(`now.${status}`, { name: current.name }));
    await reload();
  }

  return {
    element: h('li', {}, h('article', { class: 'card' }, h('div', { class: 'top' }, h('h2', {}, name), mark), h('div', { class: 'do' }, pause, edit), url, problem, numbers)),
    update(webhook) {
      current = webhook;
      name.textContent = webhook.name;
      mark.replaceChildren(badge(statusOf(webhook)));
      url.textContent = webhook.targetUrl;
      const said = problemOf(webhook);
      problem.hidden = !said;
      problem.replaceChildren(...[said ?? []].flat(2).filter(Boolean));
      problem.classList.toggle('bad', ['failing', 'disabled'].includes(statusOf(webhook)));
      if (!pause) return;
      const verb = t(webhook.status === 'active' && !webhook.health.disabled ? 'pause' : webhook.status === 'paused' ? 'resume' : 'activate');
      pause.textContent = verb;
      pause.setAttribute('aria-label', `${verb}: ${webhook.name}`);
      edit.setAttribute('aria-label', `${t('edit')}: ${webhook.name}`);
    },
    updateStats(stats) {
      const all = sums(stats);
      numbers.replaceChildren(
        spark(stats),
        facts(
          [
            [t('status.delivered'), number(all.delivered)],
            [t('status.failed'), number(all.failed + all.expired)],
            ['p95', all.p95 === undefined ? '–' : milliseconds(all.p95)],
            [t('status.pending'), atLeast(stats.pending)],
          ],
          { class: 'facts' },
        ),
        h('small', {}, t('range.24')),
      );
    },
  };
}
