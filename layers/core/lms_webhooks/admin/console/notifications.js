// Who gets mail when a webhook fails, is disabled, or works again.
import { announce, button, clearError, confirmed, field, h, panel, rule, shortTime, showFieldError, t, table, time } from './dom.js';
import { call } from './session.js';

export async function draw(screen) {
  const list = h('tbody');
  const subscribed = table(t('notifications'), ['mail', 'status', ['since', 'wide'], ['actions', 'end']], list);
  const none = h('p', { class: 'empty', hidden: true }, t('notifications.none'));
  let drawn;

  async function load() {
    const { subscriptions } = (await call('GET', 'notice-subscriptions')).body;
    subscribed.hidden = subscriptions.length === 0;
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
          h('td', {}, h('div', { class: 'do' }, screen.person.canWrite && [
            status !== 'confirmed' && button(t('mail.again'), () => add(email), { class: 'small', 'aria-label': `${t('mail.again')}: ${email}` }),
            button(t('remove'), () => remove(subscriptionId, email), { class: 'small danger', 'aria-label': `${t('remove')}: ${email}` }),
          ])),
        ),
      ),
    );
  }

  async function add(email) {
    clearError();
    await call('POST', 'notice-subscriptions', { body: { email } });
    announce(t('mail.sent', { email }));
    await load();
  }

  async function remove(id, email) {
    if (!(await confirmed(t('remove'), t('mail.remove', { email }), t('remove'), { danger: true }))) return;
    clearError();
    await call('DELETE', `notice-subscriptions/${id}`);
    announce(t('mail.removed', { email }));
    await load();
    main.focus();
  }

  const email = h('input', { type: 'email', autocomplete: 'email', maxlength: 254 });
  const submit = button(t('mail.add'), async () => {
    showFieldError(email, '');
    try {
      await add(email.value.trim());
      email.value = '';
    } catch (problem) {
      if (!problem.errors?.length) throw problem;
      showFieldError(email, rule(problem.errors[0].detail));
      email.focus();
    }
  }, { class: 'primary' });
  const form = h('form', { class: 'inline', novalidate: true, onsubmit: (event) => { event.preventDefault(); submit.click(); } }, field(t('mail'), email, { required: true }), submit);

  await load();
  screen.every(5, load);
  return [
    h('h1', { tabindex: -1 }, t('notifications')),
    h('p', { class: 'description' }, t('notifications.text')),
    panel(t('notifications'), screen.person.canWrite && form, subscribed, none),
  ];
}

const main = document.getElementById('main');
