// Who changed what in the account, newest first.
import { button, clearError, fieldLabel, h, panel, shortTime, showError, t, table, time } from './dom.js';
import { call } from './session.js';

export async function draw(screen) {
  const { webhooks } = (await call('GET', 'webhooks')).body;
  const names = new Map(webhooks.map((each) => [each.webhookId, each.name]));
  const list = h('tbody');
  const none = h('p', { class: 'empty', hidden: true }, t('activity.none'));
  const more = button(t('more'), () => load(next), { hidden: true });
  const webhook = h(
    'select',
    { 'aria-label': t('webhook'), onchange: () => (clearError(), load().catch(showError)) },
    [['', t('any')], ...names].map(([value, label]) => h('option', { value }, label)),
  );
  let next;
  webhook.value = names.has(screen.query.get('webhookId')) ? screen.query.get('webhookId') : '';

  async function load(cursor) {
    const chosen = webhook.value && { webhookId: webhook.value };
    screen.setQuery(new URLSearchParams(chosen));
    const { body } = await call('GET', `activity?${new URLSearchParams({ ...chosen, ...(cursor && { cursor }) })}`);
    if (!cursor) list.replaceChildren();
    list.append(...body.activity.map((each) => row(each, names)));
    next = body.nextCursor;
    more.hidden = !next;
    none.hidden = list.children.length > 0 || Boolean(next);
  }

  await load();
  return [
    h('h1', { tabindex: -1 }, t('activity')),
    h('p', { class: 'description' }, t('activity.text')),
    panel(
      t('activity'),
      h('div', { class: 'head' }, h('h2', {}, t('activity.changes')), webhook),
      table(t('activity'), ['when', 'activity.what', 'webhook'], list),
      none,
      h('div', { class: 'foot' }, h('span'), more),
    ),
  ];
}

function row({ at, by, action, changedFields, webhookId, deliveryId }, names) {
  const isChange = action === 'webhook.change';
  return h(
    'tr',
    {},
    h('td', {}, time(at, shortTime)),
    h('td', {}, deliveryId ? h('a', { href: `#/webhooks/${webhookId}/deliveries/${deliveryId}` }, t(`did.${action}`)) : t(`did.${action}`), isChange && h('small', {}, changedFields.map(fieldLabel).join(', ')), h('small', {}, by)),
    h('td', {}, names.has(webhookId) ? h('a', { href: `#/webhooks/${webhookId}` }, names.get(webhookId)) : webhookId ? h('code', {}, webhookId) : '–'),
  );
}
