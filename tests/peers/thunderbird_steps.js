// What a user of Thunderbird does, for tests that have it done inside the program.
// `thunderbird.py` beside this file calls `steps`.
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");

const PATIENCE_MS = 60000;
const LATE = -1;

const later = (ms, value) => new Promise(done => setTimeout(() => done(value), ms));
const within_patience = what => Promise.race([what, later(PATIENCE_MS, LATE)]);

async function until(what, find) {
  for (let end = Date.now() + PATIENCE_MS; Date.now() < end; await later(50)) {
    const found = find();
    if (found) {
      return found;
    }
  }
  throw new Error(`waited in vain for ${what}`);
}

const account = () => MailServices.accounts.accounts.find(one => one.incomingServer.type == "imap");
const root = () => account().incomingServer.rootFolder;
const there = name => root().descendants.find(one => one.URI.endsWith(`/${name}`));
const folder = name => until(`the folder ${name}`, () => there(name));
const message = (where, subject) => [...where.messages].find(one => one.subject == subject);
const made = (name, kind) => Cc[`@mozilla.org/${name};1`].createInstance(kind);

const steps = {
  // Trust an authority, and know the user's password, as after it was entered once.
  async set_up(authority, user, password) {
    const trusted = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
    trusted.addCertFromBase64(authority, "C,,");
    const login = made("login-manager/loginInfo", Ci.nsILoginInfo);
    login.init("imap://localhost", null, "imap://localhost", user, password, "", "");
    await Services.logins.addLoginAsync(login);
  },

  // Ask the server for what is new in a folder; 0 where all went well.
  async update(name) {
    const where = name == "INBOX" ? root().getChildNamed("INBOX") : await folder(name);
    where.QueryInterface(Ci.nsIMsgImapMailFolder);
    const updated = new Promise(done =>
      where.updateFolderWithListener(null, {
        OnStartRunningUrl() {},
        OnStopRunningUrl: (_, status) => done(status),
      })
    );
    return within_patience(updated);
  },

  async subjects(name) {
    return [...(await folder(name)).messages].map(one => one.subject);
  },

  async create(name) {
    root().createSubfolder(name, null);
    await folder(name);
  },

  // Open a message in the main window; what is shown as its subject and as its text.
  async show(name, subject) {
    const tabs = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("tabmail");
    const pane = tabs.currentAbout3Pane;
    const where = await folder(name);
    pane.displayFolder(where.URI);
    const row_of = () => {
      try {
        return pane.gDBView.findIndexOfMsgHdr(message(where, subject), true);
      } catch {
        return -1; // the list does not have it yet
      }
    };
    await until("the list", () => pane.gFolder?.URI == where.URI && row_of() >= 0);
    // The list may still be filled or sorted, and then the chosen row is another message.
    const shown = await until("the message", () => {
      const row = row_of();
      if (pane.threadTree.selectedIndex != row) {
        pane.threadTree.selectedIndex = row;
      }
      const window = tabs.currentAboutMessage;
      return window?.msgLoaded && window.gMessage?.subject == subject && window;
    });
    const page = () => shown.getMessagePaneBrowser().contentDocument?.body?.textContent;
    const box = shown.document.getElementById("expandedsubjectBox").textContent;
    return [box, await until("the text", () => page()?.includes("hello") && page())];
  },

  async flag(name, subject) {
    const where = await folder(name);
    where.markMessagesFlagged([message(where, subject)], true);
  },

  // Move messages one after the other, until one of them cannot be moved.
  // How each went: 0 where all went well.
  async move(from, to, subjects) {
    const [source, target] = [await folder(from), await folder(to)];
    const went = [];
    for (const subject of subjects) {
      const moved = new Promise(done => {
        const told = {
          QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
          onStartCopy() {},
          onProgress() {},
          setMessageKey() {},
          getMessageId() {},
          onStopCopy: done,
        };
        const chosen = [message(source, subject)];
        MailServices.copy.copyMessages(source, chosen, target, true, told, null, false);
      });
      went.push(await within_patience(moved));
      if (went.at(-1) != 0) {
        break;
      }
    }
    return went;
  },

  // Send plain messages one after the other; how each went, 0 where all went well.
  // A copy of each goes to Sent, which may end later.
  async send(to, subjects) {
    const identity = account().defaultIdentity;
    const went = [];
    for (const subject of subjects) {
      const fields = made("messengercompose/composefields", Ci.nsIMsgCompFields);
      const body = `${subject}\r\n`;
      Object.assign(fields, { to, subject, body, from: identity.email, forcePlainText: true });
      const chosen = made("messengercompose/composeparams", Ci.nsIMsgComposeParams);
      chosen.composeFields = fields;
      chosen.identity = identity;
      chosen.format = Ci.nsIMsgCompFormat.PlainText;
      chosen.type = Ci.nsIMsgCompType.New;
      const draft = MailServices.compose.initCompose(chosen);
      const now = Ci.nsIMsgCompDeliverMode.Now;
      const sent = draft.sendMsg(now, identity, account().key, null, null);
      went.push(await within_patience(sent.then(() => 0, error => error.result ?? `${error}`)));
    }
    return went;
  },
};
