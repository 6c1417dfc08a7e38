// The catalogue: every event type, with a sample of its data and the JSON Schema of it.
import { copyButton, eventLabel, field, h, number, panel, t } from './dom.js';
import { call, eventTypes } from './session.js';

export async function draw(screen) {
  const [types, { body }] = await Promise.all([eventTypes(), call('GET', 'webhooks')]);
  const count = h('span', { class: 'hint', role: 'status' });
  const search = h('input', { type: 'search', autocomplete: 'off', placeholder: t('events.search'), value: screen.query.get('q') ?? '', oninput: filter });
  const none = h('p', { class: 'empty', hidden: true }, t('events.none'));
  const rows = types.map((type) => {
    const users = body.webhooks.filter((each) => each.events.includes(type.eventName));
    const inside = h('div', {});
    const summary = h('summary', {}, h('b', {}, eventLabel(type)), ' ', h('span', { class: `tag ${type.category}` }, `[${t(type.category)}]`), h('code', {}, type.eventName));
    const element = h('details', { class: 'type', ontoggle: () => inside.firstChild || inside.append(...describe(type, users)) }, summary, inside);
    return { text: `${eventLabel(type)} ${type.label} ${type.eventName} ${t(type.category)}`.toLowerCase(), element };
  });

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => {
      row.element.hidden = !words.every((word) => row.text.includes(word));
    });
    const shown = rows.filter((row) => !row.element.hidden).length;
    count.textContent = t('types.shown', { n: shown, all: number(rows.length) });
    none.hidden = shown > 0;
    screen.setQuery(new URLSearchParams(search.value && { q: search.value }));
  }

  filter();
  return [
    h('h1', { tabindex: -1 }, t('types')),
    h('p', { class: 'description' }, t('types.text')),
    panel(t('types'), field(t('events.find'), search, { aside: count }), rows.map((row) => row.element), none),
  ];
}

function describe(type, users) {
  return [
    h('p', { class: 'hint' }, t('types.used'), ' ', users.length ? users.map((each, at) => [at > 0 && ', ', h('a', { href: `#/webhooks/${each.webhookId}` }, each.name)]) : t('types.unused')),
    json(type, t('types.sample'), type.sample),
    json(type, 'JSON Schema', type.dataSchema),
  ].flat();
}

function json(type, name, value) {
  const text = JSON.stringify(value, null, 2);
  return [
    h('div', { class: 'head' }, h('h2', {}, name), copyButton(text, name)),
    h('pre', { tabindex: 0, role: 'region', 'aria-label': `${name}: ${type.eventName}` }, text),
  ];
}
