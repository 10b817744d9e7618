"use strict";
// Sends one task with celery-node: node send.js QUEUE TASK ARGS [SIGNING], where ARGS is a JSON list and SIGNING
// the file with docs/signing.md's `signature`; the broker's URL and the keys come from the environment.
// Prints the task's id when the broker has confirmed the message. With STOCK=1 the client is left as it is.

const amqp = require("amqplib");
const celery = require("celery-node");

// celery-node declares an exchange and the queue before each message, as classic ones: a quorum queue of that name
// ends its channel (406), and so does a user who may configure nothing (403). This one only publishes.
class PublishOnly {
  constructor(url, sign) {
    this.sign = sign;
    this.connection = amqp.connect(url);
    this.channel = this.connection.then((connection) => connection.createConfirmChannel());
    this.confirmed = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  isReady() {
    return this.channel;
  }

  async publish(body, exchange, queue, headers, properties) {
    const bytes = Buffer.from(JSON.stringify(body));
    const given = { contentType: "application/json", contentEncoding: "utf-8", ...properties };
    const signed = this.sign ? { ...headers, "rt-signature": this.sign(queue, headers, given, bytes) } : headers;
    const channel = await this.channel;
    channel.on("return", () => this.reject(new Error(`there is no queue ${queue}`)));
    channel.publish(exchange, queue, bytes, { ...given, headers: signed, persistent: true, mandatory: true });
    channel.waitForConfirms().then(this.resolve, this.reject);
  }

  async disconnect() {
    await (await this.connection).close();
  }
}

async function main([queue, task, args, signing]) {
  const url = process.env.BROKER_URL;
  const client = celery.createClient(url, url, queue);
  if (process.env.STOCK === "1") {
    await client.broker.isReady();
    return;
  }
  const key = (process.env.RELIABLE_TASKS_SIGNING_KEYS || "").split(",")[0];
  const sign = signing && ((...message) => require(signing).signature(key, ...message));
  const broker = new PublishOnly(url, sign);
  // what its accessors would make at first use; results are read from Postgres, not from the broker
  client._broker = broker;
  client._backend = { isReady: async () => {}, disconnect: async () => {} };
  const result = client.createTask(task).applyAsync(JSON.parse(args));
  await broker.confirmed;
  await client.disconnect();
  process.stdout.write(`${result.taskId}\n`);
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
