module raftmail/peer

go 1.18

require github.com/emersion/go-imap v1.2.1
