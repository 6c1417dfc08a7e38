// Who has signed in, and every call of the API. The token lives in this tab's session storage and in no address.

const base = new URL('./', location.href.split('#')[0]);
const page = location.href.split(/[?#]/)[0];

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.message ?? `HTTP ${status}`);
    this.status = status;
    this.slug = document.type?.split(':').pop();
    this.detail = this.message;
    this.errors = document.errors ?? [];
    this.isSessionOver = status === 401;
  }
}

let config;
let endpoints;
let token = sessionStorage.getItem('token');
let whenOver = () => {};

export const onSessionOver = (act) => {
  whenOver = act;
};

async function getJson(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Problem(answer.status, {});
  return answer.json();
}

const settings = async () => (config ??= await getJson(new URL('console/config.json', base)));

async function provider() {
  const { signInUrl, issuer } = await settings();
  if (signInUrl) {
    return { authorize: `${signInUrl}/oauth2/authorize`, token: `${signInUrl}/oauth2/token`, end: `${signInUrl}/logout`, scope: 'openid', endsAt: 'logout_uri' };
  }
  const found = await getJson(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  return { authorize: found.authorization_endpoint, token: found.token_endpoint, end: found.end_session_endpoint, scope: 'openid email', endsAt: 'post_logout_redirect_uri' };
}

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/[+]/g, '-').replace(/[/]/g, '_').replace(/=+$/, '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** Go to the provider, and come back to where we are. */
export async function signIn() {
  endpoints ??= await provider();
  const [verifier, state, nonce] = [random(), random(), random()];
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  sessionStorage.setItem('signing-in', JSON.stringify({ verifier, state, nonce, hash: location.hash }));
  const query = new URLSearchParams({
    response_type: 'code',
    client_id: config.clientId,
    redirect_uri: page,
    scope: endpoints.scope,
    state,
    nonce,
    code_challenge: challenge,
    code_challenge_method: 'S256',
  });
  location.assign(`${endpoints.authorize}?${query}`);
}

/** Finish what `signIn` began, if this is where the provider sent us back to. False: it did not work out. */
export async function finishSignIn() {
  const query = new URLSearchParams(location.search);
  if (!query.has('code') && !query.has('error')) return true;
  const begun = JSON.parse(sessionStorage.getItem('signing-in') ?? '{}');
  sessionStorage.removeItem('signing-in');
  history.replaceState(null, '', page + (begun.hash ?? ''));
  // Another's code, or one that somebody slipped to us, has not our state.
  if (query.has('error') || !begun.state || query.get('state') !== begun.state) return false;
  endpoints ??= await provider();
  const answer = await fetch(endpoints.token, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      client_id: config.clientId,
      redirect_uri: page,
      code: query.get('code'),
      code_verifier: begun.verifier,
    }),
  });
  if (!answer.ok) return false;
  const { id_token: idToken } = await answer.json();
  if (!idToken || claimsOf(idToken).nonce !== begun.nonce) return false;
  token = idToken;
  sessionStorage.setItem('token', token);
  return true;
}

function claimsOf(jwt) {
  const text = atob(jwt.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
}

/** Who has signed in; undefined when nobody has, or not any more. The API judges anew at each call. */
export async function who() {
  await settings();
  if (!token) return undefined;
  const claims = claimsOf(token);
  const endsAt = claims.exp * 1000;
  if (endsAt <= Date.now()) {
    forget();
    return undefined;
  }
  const roles = [claims[config.roleClaim] ?? []].flat().join(' ').split(/[\s,]+/);
  return {
    account: claims[config.accountClaim],
    user: claims.email ?? claims['cognito:username'] ?? claims.preferred_username ?? claims.sub,
    canWrite: roles.includes(config.adminRole),
    endsAt,
  };
}

export function forget() {
  token = null;
  sessionStorage.removeItem('token');
}

export async function signOut() {
  forget();
  endpoints ??= await provider();
  if (!endpoints.end) return location.reload();
  location.assign(`${endpoints.end}?${new URLSearchParams({ client_id: config.clientId, [endpoints.endsAt]: page })}`);
}

/** Call the API: answers body, ETag and text. Repeats a POST whose answer was lost, which its key makes safe. */
export async function call(method, path, { body, etag } = {}) {
  const headers = { authorization: `Bearer ${token}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (etag) headers['if-match'] = etag;
  if (method === 'POST') headers['idempotency-key'] = crypto.randomUUID();
  const ask = () => fetch(new URL(`v1/${path}`, base), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  let answer;
  try {
    answer = await ask().catch((error) => {
      if (method !== 'POST') throw error;
      return ask();
    });
  } catch {
    throw new Problem(0, { detail: 'The API cannot be reached.' });
  }
  const text = await answer.text();
  if (!answer.ok) {
    let document = {};
    try {
      document = JSON.parse(text);
    } catch {
      // A gateway's own page says nothing that its status does not.
    }
    if (answer.status === 401) {
      forget();
      whenOver();
    }
    throw new Problem(answer.status, document);
  }
  return { body: text ? JSON.parse(text) : undefined, etag: answer.headers.get('etag'), text };
}

let types;
export const eventTypes = async () => (types ??= (await call('GET', 'event-types')).body.eventTypes);
