// npm install express standardwebhooks; npm pkg set type=module (Node 20.10 or newer)
// WEBHOOK_SECRETS=1010=whsec_... node express_app.js

import { createHash, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { link, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import express from "express";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

// A file for each event. Node has no database of its own before version 22; use yours.
const INBOX = process.env.INBOX ?? "inbox";
mkdirSync(INBOX, { recursive: true });

const verifiers = readSecrets(process.env.WEBHOOK_SECRETS ?? "");

// `<account>=<secret>`, separated by spaces: one or more of each account that sends to this receiver.
function readSecrets(text) {
  return text.trim().split(/\s+/).map((entry, index) => {
    const [, accountId, secret] = entry.match(/^([A-Za-z0-9._:@-]+)=(whsec_[A-Za-z0-9+/]{43}=)$/) ?? [];
    if (secret) return { accountId, verifier: new Webhook(secret) };
    console.error(
      `WEBHOOK_SECRETS: entry ${index + 1} is not <account>=<secret>.` +
        " Copy the secret as the API gave it: whsec_ and 44 characters of base64, without quotes.",
    );
    process.exit(1);
  });
}

const app = express();
app.set("env", "production"); // otherwise strangers whose request is too large see a stack trace

// express.raw, and no express.json() before it: the signature is of the bytes as they came.
// Its limit is 100 KiB unless told otherwise; a request may have 256.
app.post("/hooks", express.raw({ type: () => true, limit: "256kb" }), async (request, response) => {
  const body = request.body ?? Buffer.alloc(0);
  const { accountId, refusal } = verify(body, request.headers);
  if (refusal) return refuse(response, 401, refusal);
  let rows;
  try {
    const message = JSON.parse(body);
    rows = message.events.map((event) => row(accountId, event));
    if (!isOf(accountId, message)) return refuse(response, 401, "Signed by the secret of another account");
  } catch (error) {
    return refuse(response, 422, `signed, but not readable: ${error.name}`);
  }
  if (!request.headers["webhook-id"].startsWith("test_")) { // a test: nothing happened
    await Promise.all(rows.map(store)); // what throws becomes a 500, and the events come again
  }
  // Another process works on the inbox.
  response.sendStatus(204);
});

// Say why, to the admin who sends a test and in the log.
function refuse(response, status, reason) {
  console.warn(`refused with ${status}: ${reason}`);
  response.status(status).type("text/plain").send(reason);
}

// The account whose secret signed this within the last five minutes.
function verify(body, headers) {
  let refusal;
  for (const { accountId, verifier } of verifiers) {
    try {
      verifier.verify(body, headers, { jsonParse: false });
      return { accountId };
    } catch (error) {
      const isSaid = error instanceof WebhookVerificationError;
      refusal = isSaid ? error.message : "Invalid Signature Headers";
    }
  }
  return { refusal };
}

// Who has the secret of one account says nothing about another. A number beyond 2^53 is rounded on both sides.
function isOf(accountId, message) {
  return message.accountId === (typeof message.accountId === "number" ? Number(accountId) : accountId);
}

// The name of the file that keeps an event, and what is in it.
function row(accountId, event) {
  const { eventName, eventId } = event;
  if (typeof eventName !== "string" || typeof eventId !== "string") throw new TypeError("no event");
  const key = JSON.stringify([accountId, eventName, eventId]);
  const name = createHash("sha256").update(key).digest("hex");
  return { name, text: JSON.stringify({ accountId, eventName, eventId, event }) };
}

// Keep an event, whole, unless it came before.
async function store({ name, text }) {
  const draft = join(INBOX, randomUUID());
  await writeFile(draft, text, { flush: true });
  try {
    await link(draft, join(INBOX, `${name}.json`));
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  } finally {
    await unlink(draft);
  }
}

app.listen(Number(process.env.PORT ?? 8080));
