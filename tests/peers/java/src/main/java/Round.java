// The round of tests/peers/rounds.py with Angus Mail. Prints one line of JSON.

import jakarta.mail.Flags;
import jakarta.mail.Folder;
import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Store;
import jakarta.mail.event.MessageCountAdapter;
import jakarta.mail.event.MessageCountEvent;
import jakarta.mail.internet.MimeMessage;
import jakarta.mail.search.SubjectTerm;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.eclipse.angus.mail.imap.AppendUID;
import org.eclipse.angus.mail.imap.IMAPFolder;

public class Round {
    private static Session session;
    private static String user;
    private static String password;

    private static Store open(String port) throws Exception {
        Store store = session.getStore("imap");
        store.connect("127.0.0.1", Integer.parseInt(port), user, password);
        return store;
    }

    private static IMAPFolder folder(Store store, String name) throws Exception {
        IMAPFolder found = (IMAPFolder) store.getFolder(name);
        found.open(Folder.READ_WRITE);
        return found;
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\") + '"';
    }

    private static String list(Iterable<String> texts) {
        List<String> out = new ArrayList<>();
        texts.forEach(one -> out.add(quoted(one)));
        return "[" + String.join(", ", out) + "]";
    }

    private static String numbers(List<Long> found) {
        return found.stream().map(String::valueOf).collect(Collectors.joining(", ", "[", "]"));
    }

    /** Arguments: three ports, user, password, and files of four messages. */
    public static void main(String[] given) throws Exception {
        user = given[3];
        password = given[4];
        Properties properties = new Properties();
        properties.put("mail.imap.starttls.enable", "true");
        properties.put("mail.imap.starttls.required", "true");
        properties.put("mail.imap.ssl.trust", "*");
        properties.put("mail.imap.ssl.checkserveridentity", "false");
        properties.put("mail.imap.timeout", "60000");
        session = Session.getInstance(properties);
        List<MimeMessage> messages = new ArrayList<>();
        List<String> sources = new ArrayList<>();
        for (int i = 5; i < 9; i++) {
            byte[] octets = Files.readAllBytes(Path.of(given[i]));
            messages.add(new MimeMessage(session, new ByteArrayInputStream(octets)));
            sources.add(new String(octets, StandardCharsets.ISO_8859_1));
        }
        List<String> told = new ArrayList<>();
        told.add("\"secure\": true");

        Store first = open(given[0]);
        Store second = open(given[1]);
        Folder round = first.getFolder("Round");
        round.create(Folder.HOLDS_MESSAGES);
        first.getFolder("Kept").create(Folder.HOLDS_MESSAGES);
        TreeSet<String> names = new TreeSet<>();
        for (Folder one : first.getDefaultFolder().list("*")) {
            names.add(one.getFullName());
        }
        told.add("\"folders\": " + list(names));
        List<Long> uids = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Message[] one = {messages.get(i)};
            for (AppendUID uid : ((IMAPFolder) round).appendUIDMessages(one)) {
                uids.add(uid.uid);
            }
        }
        told.add("\"uids\": " + numbers(uids));

        IMAPFolder seen = folder(second, "Round");
        told.add("\"exists\": " + seen.getMessageCount());
        List<String> subjects = new ArrayList<>();
        for (Message message : seen.getMessages()) {
            subjects.add(message.getSubject());
            java.io.ByteArrayOutputStream out = new java.io.ByteArrayOutputStream();
            message.writeTo(out);
            String source = out.toString(StandardCharsets.ISO_8859_1);
            if (!source.equals(sources.get(subjects.size() - 1))) {
                throw new IllegalStateException("another message came back: " + source);
            }
        }
        told.add("\"subjects\": " + list(subjects));
        List<Long> found = new ArrayList<>();
        for (Message message : seen.search(new SubjectTerm("two"))) {
            found.add(seen.getUID(message));
        }
        told.add("\"found\": " + numbers(found));
        Message flagged = seen.getMessageByUID(2);
        Flags flags = new Flags(Flags.Flag.FLAGGED);
        flags.add("$Forwarded");
        flagged.setFlags(flags, true);
        IMAPFolder again = folder(first, "Round");
        Flags now = again.getMessageByUID(2).getFlags();
        TreeSet<String> shown = new TreeSet<>(List.of(now.getUserFlags()));
        if (now.contains(Flags.Flag.FLAGGED)) {
            shown.add("\\Flagged");
        }
        told.add("\"flags\": " + list(shown));
        again.close(false);
        Message[] moved = {seen.getMessageByUID(3)};
        seen.moveMessages(moved, second.getFolder("Kept"));

        CountDownLatch heard = new CountDownLatch(1);
        seen.addMessageCountListener(new MessageCountAdapter() {
            @Override
            public void messagesAdded(MessageCountEvent event) {
                heard.countDown();
            }
        });
        Thread idling = new Thread(() -> {
            try {
                seen.idle(true);
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        idling.start();
        Thread.sleep(200);
        Message[] fourth = {messages.get(3)};
        ((IMAPFolder) round).appendUIDMessages(fourth);
        if (!heard.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("nothing was heard while idle");
        }
        idling.join(60_000);
        int there = 0; // this client counts those that went until it expunges
        for (Message message : seen.getMessages()) {
            there += message.isExpunged() ? 0 : 1;
        }
        told.add("\"heard\": " + there);
        seen.getMessageByUID(1).setFlag(Flags.Flag.DELETED, true);
        seen.expunge();
        seen.close(false);

        Store third = open(given[2]);
        IMAPFolder last = folder(third, "Round");
        List<Long> left = new ArrayList<>();
        for (Message message : last.getMessages()) {
            left.add(last.getUID(message));
        }
        told.add("\"left\": " + numbers(left));
        told.add("\"kept\": " + third.getFolder("Kept").getMessageCount());
        last.close(false);
        for (Store store : List.of(first, second, third)) {
            store.close();
        }
        System.out.println("{" + String.join(", ", told) + "}");
    }
}
