module raftmail/peer

go 1.18

require github.com/emersion/go-imap/v2 v2.0.0-beta.8
