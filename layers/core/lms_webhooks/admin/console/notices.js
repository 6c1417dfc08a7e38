// Who is mailed when a webhook fails, is switched off, or works again.
import { allIsWell, button, confirmed, field, h, mark, rule, say, shortTime, t, time } from './core.js';
import { call } from './session.js';

export async function draw(here) {
  const list = h('tbody');
  const table = h('table', {}, h('caption', { class: 'unseen' }, t('notices')), h('thead', {}, h('tr', {}, [['mail', ''], ['status', ''], ['since', 'wide'], ['actions', 'end']].map(([key, name]) => h('th', { scope: 'col', class: name }, t(key))))), list);
  const none = h('p', { class: 'empty', hidden: true }, t('notices.none'));
  let drawn;

  async function load() {
    const { subscriptions } = (await call('GET', 'notice-subscriptions')).body;
    table.hidden = subscriptions.length === 0;
    none.hidden = subscriptions.length > 0;
    if (drawn === JSON.stringify(subscriptions)) return;
    drawn = JSON.stringify(subscriptions);
    list.replaceChildren(
      ...subscriptions.map(({ subscriptionId, email, status, createdAt }) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, email.replace(/@.*/, '@'), h('wbr'), email.replace(/.*@/, '')),
          h('td', {}, h('span', { class: `badge ${status}` }, t(`mail.${status}`))),
          h('td', { class: 'wide' }, time(createdAt, shortTime)),
          h('td', {}, h('div', { class: 'do' }, here.person.canWrite && [
            status !== 'confirmed' && button(t('mail.again'), () => add(email), { class: 'small', 'aria-label': `${t('mail.again')}: ${email}` }),
            button(t('remove'), () => remove(subscriptionId, email), { class: 'small danger', 'aria-label': `${t('remove')}: ${email}` }),
          ])),
        ),
      ),
    );
  }

  async function add(email) {
    allIsWell();
    await call('POST', 'notice-subscriptions', { body: { email } });
    say(t('mail.sent', { email }));
    await load();
  }

  async function remove(id, email) {
    if (!(await confirmed(t('remove'), t('mail.remove', { email }), t('remove'), { danger: true }))) return;
    allIsWell();
    await call('DELETE', `notice-subscriptions/${id}`);
    say(t('mail.removed', { email }));
    await load();
    main.focus();
  }

  const email = h('input', { type: 'email', autocomplete: 'email', maxlength: 254 });
  const submit = button(t('mail.add'), async () => {
    mark(email, '');
    try {
      await add(email.value.trim());
      email.value = '';
    } catch (problem) {
      if (!problem.errors?.length) throw problem;
      mark(email, rule(problem.errors[0].detail));
      email.focus();
    }
  }, { class: 'primary' });
  const form = h('form', { class: 'inline', novalidate: true, onsubmit: (event) => { event.preventDefault(); submit.click(); } }, field(t('mail'), email, { required: true }), submit);

  await load();
  here.every(5, load);
  return [
    h('h1', { tabindex: -1 }, t('notices')),
    h('p', { class: 'description' }, t('notices.text')),
    h('section', { class: 'panel', 'aria-label': t('notices') }, here.person.canWrite && form, table, none),
  ];
}

const main = document.getElementById('main');
