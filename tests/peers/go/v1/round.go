// The round of tests/peers/rounds.py with go-imap's first version. Prints one line of JSON.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"sort"
	"time"

	"github.com/emersion/go-imap"
	"github.com/emersion/go-imap/client"
)

type plan struct {
	Ports    []int    `json:"ports"`
	User     string   `json:"user"`
	Password string   `json:"password"`
	Messages []string `json:"messages"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func open(given plan, number int) *client.Client {
	opened, err := client.Dial(fmt.Sprintf("127.0.0.1:%d", given.Ports[number]))
	must(err)
	// The nodes' certificates are of an authority of their own.
	must(opened.StartTLS(&tls.Config{InsecureSkipVerify: true}))
	must(opened.Login(given.User, given.Password))
	return opened
}

func save(opened *client.Client, message string) {
	must(opened.Append("Round", nil, time.Now(), bytes.NewReader([]byte(message))))
}

func set(uid uint32) *imap.SeqSet {
	made := new(imap.SeqSet)
	made.AddNum(uid)
	return made
}

func fetch(opened *client.Client, uids *imap.SeqSet, items ...imap.FetchItem) []*imap.Message {
	messages := make(chan *imap.Message, 20)
	must(opened.UidFetch(uids, items, messages))
	found := []*imap.Message{}
	for one := range messages {
		found = append(found, one)
	}
	return found
}

func main() {
	var given plan
	must(json.Unmarshal([]byte(os.Args[1]), &given))
	first, second := open(given, 0), open(given, 1)
	told := map[string]any{"secure": first.IsTLS()}

	must(first.Create("Round"))
	must(first.Create("Kept"))
	folders := make(chan *imap.MailboxInfo, 20)
	must(first.List("", "*", folders))
	names := []string{}
	for one := range folders {
		names = append(names, one.Name)
	}
	sort.Strings(names)
	told["folders"] = names
	for _, message := range given.Messages[:3] {
		save(first, message)
	}

	chosen, err := second.Select("Round", false)
	must(err)
	told["exists"] = chosen.Messages
	whole := &imap.BodySectionName{Peek: true}
	all := new(imap.SeqSet)
	all.AddRange(1, 0)
	subjects, uids := []string{}, []uint32{}
	for number, one := range fetch(
		second, all, imap.FetchEnvelope, imap.FetchUid, imap.FetchBodyStructure, whole.FetchItem(),
	) {
		subjects = append(subjects, one.Envelope.Subject)
		uids = append(uids, one.Uid)
		source, err := io.ReadAll(one.GetBody(whole))
		must(err)
		if string(source) != given.Messages[number] {
			log.Fatal("another message came back")
		}
	}
	told["subjects"], told["uids"] = subjects, uids
	criteria := imap.NewSearchCriteria()
	criteria.Header.Add("Subject", "two")
	found, err := second.UidSearch(criteria)
	must(err)
	told["found"] = found
	must(second.UidStore(
		set(2), imap.FormatFlagsOp(imap.AddFlags, true), []any{imap.FlaggedFlag, "$Forwarded"}, nil,
	))
	flags := fetch(second, set(2), imap.FetchFlags)[0].Flags
	sort.Strings(flags)
	for number, flag := range flags {
		if flag == "$forwarded" { // this client makes keywords small
			flags[number] = "$Forwarded"
		}
	}
	told["flags"] = flags
	must(second.UidMove(set(3), "Kept"))

	updates := make(chan client.Update, 100)
	second.Updates = updates
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- second.Idle(stop, nil) }()
	time.Sleep(200 * time.Millisecond)
	save(first, given.Messages[3])
	for told["heard"] == nil {
		if update, is := (<-updates).(*client.MailboxUpdate); is {
			told["heard"] = update.Mailbox.Messages
		}
	}
	close(stop)
	must(<-ended)
	second.Updates = nil

	must(second.UidStore(
		set(1), imap.FormatFlagsOp(imap.AddFlags, true), []any{imap.DeletedFlag}, nil,
	))
	must(second.Expunge(nil))
	third := open(given, 2)
	_, err = third.Select("Round", false)
	must(err)
	left, err := third.UidSearch(imap.NewSearchCriteria())
	must(err)
	told["left"] = left
	kept, err := third.Status("Kept", []imap.StatusItem{imap.StatusMessages})
	must(err)
	told["kept"] = kept.Messages
	for _, one := range []*client.Client{first, second, third} {
		must(one.Logout())
	}
	line, err := json.Marshal(told)
	must(err)
	fmt.Println(string(line))
}
