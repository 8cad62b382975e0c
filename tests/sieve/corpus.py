"""Messages and tests of scripts whose answers are known: Pigeonhole gives the same ones.

`test_against_pigeonhole.py` asks it about every test and every message.
"""

from __future__ import annotations

from typing import Final

REQUIRE: Final = (
    'require ["variables", "imap4flags", "envelope", "body", "relational", "subaddress", '
    '"comparator-i;ascii-numeric", "date", "index", "encoded-character", "mailbox"];\n'
)

SIMPLE: Final = (
    b"Return-Path: <anna@example.org>\r\n"
    b"From: Anna Example <anna+Work@Example.org>\r\n"
    b'To: me+lists@example.org, "Doe, John" <john@Example.com>\r\n'
    b"Cc: group: a@b.example, c@d.example;\r\n"
    b"Subject:   Hello   World  \r\n"
    b"Date: Mon, 20 Jul 2009 21:44:43 +0300\r\n"
    b"X-Empty:\r\n"
    b"X-Number: 0042 things\r\n"
    b"X-Folded: one\r\n two\r\n\tthree\r\n"
    b"X-Many: first\r\nX-Many: Second\r\nX-Many: third\r\n"
    b"X-Stars: a*b?c\\d [x] (y)\r\n"
    b"\r\nThe body of it.\r\nSecond line.\r\n"
)
ENCODED: Final = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\n"
    b"To: <me@example.org>\r\n"
    b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?b?IGF1cyBXaWVu?=\r\n"
    b"Received: from x by y; Tue, 1 Jan 2008 00:30:00 +0100\r\n"
    b"Received: from a by x; Mon, 31 Dec 2007 23:29:59 +0000\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\nGr=FC=DFe =\r\nvon hier\r\n"
)
MULTIPART: Final = (
    b"From: a@b.example\r\nTo: me@example.org\r\nSubject: parts\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n"
    b"preamble\r\n--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n"
    b"--inner\r\nContent-Type: text/plain\r\n\r\nPlain words\r\n"
    b"--inner\r\nContent-Type: text/html\r\n\r\n<p>Marked <b>up</b></p>\r\n--inner--\r\n"
    b"--outer\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"JVBERi1zZWNyZXQ=\r\n--outer--\r\nepilogue\r\n"
)
BARE: Final = b"Subject: no body\r\nX-Other: one\r\n"

MESSAGES: Final = {"simple": SIMPLE, "encoded": ENCODED, "multipart": MULTIPART, "bare": BARE}

TESTS: Final[list[tuple[str, str, bool]]] = [
    # Match types and comparators
    ("simple", 'header "subject" "Hello   World"', True),
    ("simple", 'header "Subject" "hello   world"', True),
    ("simple", 'header :comparator "i;octet" "subject" "hello   world"', False),
    ("simple", 'header :contains "subject" "LO   W"', True),
    ("simple", 'header :contains "subject" ""', True),
    ("simple", 'header :contains "x-empty" ""', True),
    ("simple", 'header :is "x-empty" ""', True),
    ("simple", 'header :is "x-none" ""', False),
    ("simple", 'header :contains "x-none" ""', False),
    ("simple", 'header :matches "x-empty" "*"', True),
    ("simple", 'header :matches "x-empty" "?"', False),
    ("simple", 'header :matches "subject" "h?llo*"', True),
    ("simple", 'header :matches "subject" "*world"', True),
    ("simple", 'header :matches "subject" "*o*o*d"', True),
    ("simple", 'header :matches "subject" "world"', False),
    ("simple", 'header :matches "x-stars" "a\\\\*b\\\\?c*"', True),
    ("simple", 'header :matches "x-stars" "*[x] (?)"', True),
    ("simple", 'header :matches "x-stars" "a\\\\?b*"', False),
    ("simple", 'header :matches "x-stars" "*\\\\\\\\d*"', True),
    ("simple", 'header ["x-none", "x-many"] ["SECOND", "other"]', True),
    ("simple", 'header "x-folded" "one two three"', True),
    ("simple", 'header :value "gt" :comparator "i;ascii-numeric" "x-number" "41"', True),
    ("simple", 'header :value "lt" :comparator "i;ascii-numeric" "x-number" "41"', False),
    ("simple", 'header :is :comparator "i;ascii-numeric" "x-number" "42"', True),
    ("simple", 'header :is :comparator "i;ascii-numeric" "subject" "none"', True),
    ("simple", 'header :value "gt" :comparator "i;ascii-numeric" "subject" "999"', True),
    ("simple", 'header :count "eq" :comparator "i;ascii-numeric" "x-many" "3"', True),
    ("simple", 'header :count "ge" :comparator "i;ascii-numeric" ["x-many", "subject"] "5"', False),
    ("simple", 'header :count "eq" :comparator "i;ascii-numeric" "x-none" "0"', True),
    ("simple", 'header :value "ge" "x-many" "third"', True),
    ("simple", 'header :value "ne" "subject" "hello   world"', False),
    ("simple", 'header :is :comparator "i;ascii-casemap" "subject" "HELLO   WORLD"', True),
    # Addresses
    ("simple", 'address "from" "anna+work@example.org"', True),
    ("simple", 'address :localpart "from" "anna+work"', True),
    ("simple", 'address :domain "from" "EXAMPLE.ORG"', True),
    ("simple", 'address :user "from" "anna"', True),
    ("simple", 'address :detail "from" "work"', True),
    ("simple", 'address :detail "to" "lists"', True),
    ("simple", 'address :contains :detail "cc" ""', False),
    ("simple", 'address :user "cc" "a"', True),
    ("simple", 'address :domain "cc" "d.example"', True),
    ("simple", 'address :count "eq" :comparator "i;ascii-numeric" "to" "2"', True),
    ("simple", 'address :count "eq" :comparator "i;ascii-numeric" ["to", "cc"] "4"', True),
    ("simple", 'address :contains "from" "Anna Example"', False),
    ("simple", 'address :all :is "to" "john@example.com"', True),
    ("encoded", 'address "from" "juergen@example.org"', True),
    ("bare", 'address :contains "to" ""', False),
    ("bare", 'address :contains "from" ""', False),
    # Envelope: from anna@example.org, to me+box@example.org
    ("simple", 'envelope "from" "anna@example.org"', True),
    ("simple", 'envelope :localpart "from" "anna"', True),
    ("simple", 'envelope :domain "from" "example.org"', True),
    ("simple", 'envelope :user "to" "me"', True),
    ("simple", 'envelope :detail "to" "box"', True),
    ("simple", 'envelope :detail "from" ""', False),
    ("simple", 'envelope ["from", "to"] "other@example.org"', False),
    # exists, size, true, false
    ("simple", 'exists "x-empty"', True),
    ("simple", 'exists ["x-empty", "X-NUMBER"]', True),
    ("simple", 'exists ["x-empty", "x-none"]', False),
    ("simple", "size :over 100", True),
    ("simple", "size :over 1K", False),
    ("simple", "size :under 100K", True),
    ("simple", "size :under 1", False),
    ("simple", "true", True),
    ("simple", "false", False),
    ("simple", "not false", True),
    ("simple", "not not not true", False),
    ("simple", "allof (true, not false, true)", True),
    ("simple", "allof (true, false)", False),
    ("simple", "anyof (false, allof (true, not true), not anyof (false, false))", True),
    ("simple", "anyof (false, false)", False),
    ("simple", "not allof (true, anyof (false, true))", False),
    # Encoded words and characters
    ("encoded", 'header "subject" "Grüße aus Wien"', True),
    ("encoded", 'header :contains "subject" "ÜSS"', False),
    ("encoded", 'header :contains "from" "Jürgen"', True),
    ("encoded", 'header "subject" "Gr${unicode:FC}${hex:c3 9f}e aus Wien"', True),
    ("encoded", 'header :contains "subject" "${hex:4}"', False),
    ("encoded", 'header :matches "subject" "Gr*??e*"', True),
    # Index
    ("simple", 'header :index 1 "x-many" "first"', True),
    ("simple", 'header :index 2 "x-many" "first"', False),
    ("simple", 'header :index 1 :last "x-many" "third"', True),
    ("simple", 'header :index 3 :last "x-many" "first"', True),
    ("simple", 'header :index 4 "x-many" ["first", "second", "third"]', False),
    # Dates
    ("simple", 'date :originalzone "date" "hour" "21"', True),
    ("simple", 'date :zone "+0000" "date" "hour" "18"', True),
    ("simple", 'date :zone "-0500" "date" "time" "13:44:43"', True),
    ("simple", 'date :zone "+0600" "date" "date" "2009-07-21"', True),
    ("simple", 'date :originalzone "date" "weekday" "1"', True),
    ("simple", 'date :zone "+0000" "date" "julian" "55032"', True),
    ("simple", 'date :originalzone "date" "zone" "+0300"', True),
    ("simple", 'date :originalzone "date" "iso8601" "2009-07-20T21:44:43+03:00"', True),
    ("simple", 'date :originalzone "date" "std11" "Mon, 20 Jul 2009 21:44:43 +0300"', True),
    ("simple", 'date :value "ge" :zone "+0000" "date" "year" "2009"', True),
    ("simple", 'date :zone "+0000" "x-none" "year" "2009"', False),
    ("simple", 'date :contains :zone "+0000" "subject" "year" ""', False),
    ("encoded", 'date :zone "+0000" "received" "year" "2007"', True),
    ("encoded", 'date :originalzone "received" "date" "2008-01-01"', True),
    ("encoded", 'date :zone "+0000" :index 2 "received" "minute" "29"', True),
    ("encoded", 'date :zone "+0000" :index 1 :last "received" "second" "59"', True),
    ("simple", 'currentdate :value "gt" "year" "2020"', True),
    ("simple", 'currentdate :matches :zone "+0000" "time" "??:??:??"', True),
    # Body
    ("simple", 'body :contains "BODY OF"', True),
    ("simple", 'body :raw :contains "second line"', True),
    ("simple", 'body :raw :contains "subject"', False),
    ("simple", 'body :raw :matches "The*line.*"', True),
    ("simple", 'body :content "text" :contains "body"', True),
    ("simple", 'body :content "image" :contains ""', False),
    ("encoded", 'body :contains "Grüße von hier"', True),
    ("encoded", 'body :raw :contains "Gr=FC=DFe ="', True),
    ("multipart", 'body :contains "plain words"', True),
    ("multipart", 'body :text :contains "Marked up"', True),
    ("multipart", 'body :content "text/html" :contains "<b>up</b>"', True),
    ("multipart", 'body :content "text/plain" :contains "Marked"', False),
    ("multipart", 'body :content "application/pdf" :contains "%PDF-secret"', True),
    ("multipart", 'body :content "application" :contains "%PDF-secret"', True),
    ("multipart", 'body :contains "%PDF-secret"', False),
    ("multipart", 'body :raw :contains "epilogue"', True),
    ("bare", 'body :raw :contains ""', False),
    ("bare", 'body :contains ""', False),
    # Variables that nobody has set
    ("simple", 'string "${nothing}" ""', True),
    ("simple", 'string "a${nothing}b" "ab"', True),
    ("simple", 'string "${}" "${}"', True),
    ("simple", 'string :comparator "i;ascii-casemap" "${a.b" "${A.B"', True),
    ("simple", 'string :contains :comparator "i;ascii-casemap" "abc" ["x", "B"]', True),
    ("simple", 'string :count "eq" :comparator "i;ascii-numeric" ["a", "", "b"] "2"', True),
    ("simple", 'string :matches "foobar" "foo?a?"', True),
    ("simple", 'hasflag "\\\\Seen"', False),
    ("simple", 'hasflag :count "eq" :comparator "i;ascii-numeric" "0"', True),
    ("simple", 'mailboxexists "INBOX"', True),
    ("simple", 'mailboxexists ["INBOX", "no such mailbox"]', False),
]
"""The message, the test, and whether it holds."""

ASSIGNED: Final[list[tuple[str, str, str]]] = [
    ("", '"plain"', "plain"),
    ("", '"a${none}b"', "ab"),
    (":upper", '"aBc ü"', "ABC ü"),
    (":lower", '"ABC Ü"', "abc Ü"),
    (":upperfirst", '"abc"', "Abc"),
    (":lowerfirst", '"ABC"', "aBC"),
    (":upperfirst :lower", '"ABC"', "Abc"),
    (":lower :upperfirst", '"aBC"', "Abc"),
    (":quotewildcard", '"a*b?c"', "a\\*b\\?c"),
    (":length", '"häuser"', "6"),
    (":length", '""', "0"),
    (":length :quotewildcard", '"*"', "2"),
    ("", '"${unicode: 48 49}${hex:21}"', "HI!"),
    ("", '"${${x}}"', "${}"),
    ("", '"$"', "$"),
    ("", '"${1}"', ""),
]
"""Modifiers, a string, and what the variable then has."""

CAPTURED: Final[list[tuple[str, str, list[str]]]] = [
    ("foobarbaz", "*bar*", ["foobarbaz", "foo", "baz"]),
    ("aXbXc", "*X*", ["aXbXc", "a", "bXc"]),
    ("aXbXc", "?X*", ["aXbXc", "a", "bXc"]),
    ("abcabc", "*b*c", ["abcabc", "a", "cab"]),
    ("abc", "???", ["abc", "a", "b", "c"]),
    ("abc", "**", ["abc", "", "abc"]),
    ("abc", "*?*", ["abc", "", "a", "bc"]),
    ("list [a.b] re: x", "*[*.*]*", ["list [a.b] re: x", "list ", "a", "b", " re: x"]),
]
"""A value, a pattern, and what the match variables then have."""

REFUSED: Final[list[tuple[str, tuple[int, int]]]] = [
    ("kep;", (1, 1)),
    ("keep", (1, 5)),
    ("keep;\n  stop", (2, 7)),
    ('fileinto "x";', (1, 1)),
    ('require "fileinto"; fileinto;', (1, 21)),
    ('require "fileinto"; fileinto ["x"];', (1, 30)),
    ('require "fileinto"; fileinto 5;', (1, 30)),
    ('require "nothing";', (1, 9)),
    ('keep; require "fileinto";', (1, 7)),
    ("if true { keep; ", (1, 9)),
    ("if true keep;", (1, 9)),
    ("if { keep; }", (1, 1)),
    ("if true, false { keep; }", (1, 8)),
    ("else { keep; }", (1, 1)),
    ("if true { } else { } elsif true { }", (1, 22)),
    ("if not { }", (1, 4)),
    ("if anyof true { }", (1, 4)),
    ("if anyof () { }", (1, 11)),
    ("if anyof (true, ) { }", (1, 17)),
    ("if keep { }", (1, 4)),
    ("true;", (1, 1)),
    ("stop 5;", (1, 6)),
    ('header "a" "b";', (1, 1)),
    ('if header "a" { }', (1, 4)),
    ('if header :is :contains "a" "b" { }', (1, 15)),
    ('if header "a" :is "b" { }', (1, 15)),
    ('if header :frop "a" "b" { }', (1, 11)),
    ('if header :comparator "i;none" "a" "b" { }', (1, 23)),
    ('if header :value "gt" "a" "b" { }', (1, 11)),
    ('require "relational"; if header :value "xx" "a" "b" { }', (1, 40)),
    ('if address "subject" "b" { }', (1, 12)),
    ('require "envelope"; if envelope "subject" "b" { }', (1, 33)),
    ("if size 5 { }", (1, 4)),
    ("if size :over { }", (1, 9)),
    ('if size :over "5" { }', (1, 15)),
    ("if size :over 5X { }", (1, 15)),
    ('redirect "no address";', (1, 10)),
    ('redirect "a@b", "c@d";', (1, 15)),
    ('redirect "Name <a@b> x";', (1, 10)),
    ('require "variables"; set "1" "x";', (1, 26)),
    ('require "variables"; set "global.a" "x";', (1, 26)),
    ("if exists [] { keep; }", (1, 12)),
    ('require "index"; if header :last "a" "b" { }', (1, 21)),
    ('require "index"; if header :index 0 "a" "b" { }', (1, 35)),
    ('require "duplicate"; if duplicate :header "x" :uniqueid "y" { }', (1, 47)),
    ('require ["special-use", "fileinto"]; fileinto :specialuse "Junk" "x";', (1, 59)),
    ('require "encoded-character"; redirect "${unicode:110000}";', (1, 39)),
    ('keep "x;', (1, 6)),
    ("/* keep;", (1, 1)),
    ('require "variables"; set "a b" "c";', (1, 26)),
    ('require "variables"; set :upper :lower "a" "c";', (1, 33)),
    ('require "variables"; set "${a}" "c";', (1, 26)),
    ('require "vacation"; vacation :days 1 :days 2 "x";', (1, 38)),
    ('require "vacation"; vacation;', (1, 21)),
    ("keep; }", (1, 7)),
    ("if true { keep; } }", (1, 19)),
    ("[", (1, 1)),
    ("keep ;;", (1, 7)),
    ("require [];", (1, 10)),
]
"""Scripts that are refused, and where the fault is told. Pigeonhole refuses each as well."""

REFUSED_HERE: Final[list[tuple[str, tuple[int, int]]]] = [
    ('require "date"; if date :zone "x" "date" "hour" "1" { }', (1, 31)),
    ('require "include"; include :global "x";', (1, 28)),
    ('require "include"; include "main";', (1, 20)),
]
"""Scripts of which Pigeonhole takes the first, and was never asked about the others."""

TAKEN: Final = [
    "",
    "# nothing\r\n/* at * all **/",
    "keep;",
    "KEEP; StOp;",
    'require "fileinto"; FileInto "a/b";',
    'require ["fileinto", "copy"]; fileinto :copy "x";',
    "if true { } elsif false { stop; } else { discard; }",
    'if header :comparator "i;octet" :is "a" ["b"] { }',
    'if header :is :comparator "i;octet" "a" "b" { }',
    "if size :over 1G { keep; }",
    'redirect "a@b.example";',
    'redirect "Name <a@b.example>";',
    'require "reject"; reject text: # comment\r\nline\r\n..dot\r\n.\r\n;',
    'require "vacation"; vacation :mime :handle "h" :days 3 :addresses ["a@b.example"] "x";',
    'require ["imap4flags", "variables"]; addflag "x" ["\\\\Seen", "a b"]; keep :flags "${x}";',
    'require ["body"]; if body :content ["text", "image/png"] :contains "x" { }',
    "if anyof(allof(true),not not false){if true{if true{}}}",
]
