// npm install express standardwebhooks; WEBHOOK_SECRETS=whsec_... node express_app.js (Node 22.13 or newer)

import { DatabaseSync } from "node:sqlite";
import express from "express";
import { Webhook } from "standardwebhooks";

// Separated by spaces: the old and the new one while you change it, or those of several webhooks.
const verifiers = process.env.WEBHOOK_SECRETS.trim().split(/\s+/).map((secret) => new Webhook(secret));

const db = new DatabaseSync(process.env.DATABASE ?? "inbox.sqlite3", { timeout: 3000 });
db.exec("CREATE TABLE IF NOT EXISTS inbox (event_id TEXT PRIMARY KEY, account_id TEXT, event TEXT)");
const insert = db.prepare("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)");

const app = express();

// express.raw, and no express.json() before it: the signature is of the bytes as they came.
// Its limit is 100 KiB unless told otherwise; a request may have 256.
app.post("/hooks", express.raw({ type: "application/json", limit: "256kb" }), (request, response) => {
  const message = verified(request.body, request.headers);
  if (!message) return response.sendStatus(401);
  store(message);
  // Another process works on the inbox, and skips ids that start with test-.
  response.sendStatus(204);
});

// The message, if one of the secrets signed it within the last five minutes.
function verified(body, headers) {
  for (const verifier of verifiers) {
    try {
      return verifier.verify(body, headers);
    } catch {
      continue;
    }
  }
}

// Keep all events or, if this throws, none; those that came before are there already.
function store({ accountId, events }) {
  db.exec("BEGIN IMMEDIATE");
  try {
    for (const event of events) insert.run(event.eventId, String(accountId), JSON.stringify(event));
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error; // Express answers 500, and the events come again
  }
}

app.listen(Number(process.env.PORT ?? 8080));
