// kafkajs at its defaults. `publish TOPIC` sends {key, value} from lines of JSON; `read TOPIC` prints such lines for ever.
import { createInterface } from "node:readline";
import kafkajs from "kafkajs";

const [servers, command, topic] = process.argv.slice(2);
const kafka = new kafkajs.Kafka({ brokers: servers.split(","), logLevel: kafkajs.logLevel.ERROR });

if (command === "publish") {
  const messages = [];
  for await (const line of createInterface({ input: process.stdin })) messages.push(JSON.parse(line));
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages });
  await producer.disconnect();
} else {
  const consumer = kafka.consumer({ groupId: `foreign-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error.message);
    process.exit(1);
  });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const text = (bytes) => (bytes === null ? null : bytes.toString());
      console.log(JSON.stringify({ key: text(message.key), value: text(message.value) }));
    },
  });
}
