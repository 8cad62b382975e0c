// The round of tests/peers/rounds.py with go-imap's second version. Prints one line of JSON.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
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

func open(given plan, number int, exists func(uint32)) *imapclient.Client {
	options := &imapclient.Options{
		// The nodes' certificates are of an authority of their own.
		TLSConfig: &tls.Config{InsecureSkipVerify: true},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(data *imapclient.UnilateralDataMailbox) {
				if data.NumMessages != nil && exists != nil {
					exists(*data.NumMessages)
				}
			},
		},
	}
	client, err := imapclient.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", given.Ports[number]), options)
	must(err)
	must(client.Login(given.User, given.Password).Wait())
	return client
}

func save(client *imapclient.Client, message string) int {
	command := client.Append("Round", int64(len(message)), nil)
	_, err := command.Write([]byte(message))
	must(err)
	must(command.Close())
	data, err := command.Wait()
	must(err)
	return int(data.UID)
}

func numbers(uids []imap.UID) []int {
	found := []int{}
	for _, uid := range uids {
		found = append(found, int(uid))
	}
	return found
}

func main() {
	var given plan
	must(json.Unmarshal([]byte(os.Args[1]), &given))
	told := map[string]any{"secure": true}
	heard := make(chan uint32, 10)
	first := open(given, 0, nil)
	second := open(given, 1, func(count uint32) { heard <- count })

	must(first.Create("Round", nil).Wait())
	must(first.Create("Kept", nil).Wait())
	folders, err := first.List("", "*", nil).Collect()
	must(err)
	names := []string{}
	for _, one := range folders {
		names = append(names, one.Mailbox)
	}
	sort.Strings(names)
	told["folders"] = names
	uids := []int{}
	for _, message := range given.Messages[:3] {
		uids = append(uids, save(first, message))
	}
	told["uids"] = uids

	chosen, err := second.Select("Round", nil).Wait()
	must(err)
	told["exists"] = chosen.NumMessages
	whole := &imap.FetchItemBodySection{Peek: true}
	var all imap.SeqSet
	all.AddRange(1, 0)
	fetched, err := second.Fetch(all, &imap.FetchOptions{
		UID: true, Envelope: true, BodySection: []*imap.FetchItemBodySection{whole},
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
	}).Collect()
	must(err)
	subjects := []string{}
	for number, one := range fetched {
		subjects = append(subjects, one.Envelope.Subject)
		if string(one.FindBodySection(whole)) != given.Messages[number] {
			log.Fatal("another message came back")
		}
	}
	told["subjects"] = subjects
	found, err := second.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "two"}},
	}, nil).Wait()
	must(err)
	told["found"] = numbers(found.AllUIDs())
	must(second.Store(imap.UIDSetNum(2), &imap.StoreFlags{
		Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, imap.FlagForwarded},
	}, nil).Close())
	flagged, err := second.Fetch(imap.UIDSetNum(2), &imap.FetchOptions{Flags: true}).Collect()
	must(err)
	flags := []string{}
	for _, flag := range flagged[0].Flags {
		flags = append(flags, string(flag))
	}
	sort.Strings(flags)
	told["flags"] = flags
	_, err = second.Move(imap.UIDSetNum(3), "Kept").Wait()
	must(err)

	for len(heard) > 0 {
		<-heard
	}
	idle, err := second.Idle()
	must(err)
	save(first, given.Messages[3])
	told["heard"] = <-heard
	must(idle.Close())
	must(idle.Wait())

	must(second.Store(imap.UIDSetNum(1), &imap.StoreFlags{
		Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted},
	}, nil).Close())
	must(second.UIDExpunge(imap.UIDSetNum(1)).Close())
	third := open(given, 2, nil)
	_, err = third.Select("Round", nil).Wait()
	must(err)
	left, err := third.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	must(err)
	told["left"] = numbers(left.AllUIDs())
	kept, err := third.Status("Kept", &imap.StatusOptions{NumMessages: true}).Wait()
	must(err)
	told["kept"] = *kept.NumMessages
	for _, client := range []*imapclient.Client{first, second, third} {
		must(client.Logout().Wait())
	}
	line, err := json.Marshal(told)
	must(err)
	fmt.Println(string(line))
}
