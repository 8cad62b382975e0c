// The round of tests/peers/rounds.py with imapflow. Prints one line of JSON.
import { readFileSync } from 'node:fs';
import { ImapFlow } from 'imapflow';

const { ports, user, password, ca, messages } = JSON.parse(process.argv[2]);

async function open(port) {
    const client = new ImapFlow({
        host: '127.0.0.1',
        port,
        secure: false,
        auth: { user, pass: password },
        logger: false,
        tls: { ca: readFileSync(ca), checkServerIdentity: () => undefined },
    });
    client.on('error', () => {});
    await client.connect();
    return client;
}

const told = {};
const first = await open(ports[0]);
const second = await open(ports[1]);
told.secure = first.secureConnection;

await first.mailboxCreate('Round');
await first.mailboxCreate('Kept');
told.folders = (await first.list()).map((one) => one.path).sort();
told.uids = [];
for (const message of messages.slice(0, 3)) {
    told.uids.push((await first.append('Round', message, [])).uid);
}

const opened = await second.mailboxOpen('Round');
told.exists = opened.exists;
told.subjects = [];
for await (const message of second.fetch('1:*', { envelope: true, uid: true, source: true })) {
    told.subjects.push(message.envelope.subject);
    if (message.source.toString() !== messages[told.subjects.length - 1]) {
        throw new Error('another message came back');
    }
}
told.found = await second.search({ subject: 'two' }, { uid: true });
await second.messageFlagsAdd('2', ['\\Flagged', '$Forwarded'], { uid: true });
const flagged = await second.fetchOne('2', { flags: true }, { uid: true });
told.flags = [...flagged.flags].sort();
await second.messageMove('3', 'Kept', { uid: true });

const heard = new Promise((resolve) => second.on('exists', (event) => resolve(event.count)));
const idling = second.idle();
await first.append('Round', messages[3], []);
told.heard = await heard;
await second.noop();
await idling;

await second.messageDelete('1', { uid: true });
const third = await open(ports[2]);
await third.mailboxOpen('Round');
told.left = await third.search({ all: true }, { uid: true });
told.kept = (await third.status('Kept', { messages: true })).messages;
for (const client of [first, second, third]) {
    await client.logout();
}
console.log(JSON.stringify(told));
