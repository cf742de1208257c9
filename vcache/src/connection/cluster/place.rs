//! Where the commands of a packet go: to the node that has their keys' slot, to all primaries, or in pieces to several
//! nodes; and how the answers of the pieces become one.

use redis::Value;

use super::key_slot::slot;
use crate::connection::command::Packet;
use crate::connection::policy::{Blocking, Policy, Taken};
use crate::connection::words::Words;
use crate::error::{Error, Result};

/// Where a packet goes.
pub(super) enum Place {
    /// It goes as it is.
    Whole(To),
    /// It goes in pieces.
    Pieces(Plan),
}

/// Where a piece goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// All its keys are in this slot.
    Slot(u16),
    /// It has no key, or none that is known. A node that does not have its keys names the one that does.
    Anywhere,
    /// To each primary.
    Primaries,
}

/// How a packet goes in pieces.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) units: Vec<Unit>,
    pub(super) pieces: Vec<Piece>,
}

/// What belongs together: a command, or a transaction.
pub(super) struct Unit {
    pub(super) join: Join,
    /// Its pieces in the plan: the first, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
}

/// What goes to one place.
pub(super) struct Piece {
    pub(super) to: To,
    pub(super) bytes: Vec<u8>,
    pub(super) replies: usize,
}

/// How the answers of a unit's pieces become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Join {
    /// There is one piece, and its replies are the unit's.
    Only,
    /// They are numbers to add.
    Sum,
    /// They are lists, one behind the other.
    Concatenated,
    /// They are lists of values; of each piece, the places of its values in the whole.
    Values(Vec<Vec<usize>>),
    /// They are lists of numbers; the least of each place counts.
    Least,
    /// They are all the same, or should be.
    Same,
}

impl Packet {
    /// Where it goes in a cluster.
    ///
    /// # Errors
    /// `Response` with the code `CROSSSLOT`, as a server would: a command, or a transaction, names keys of two slots.
    pub(super) fn place(&self) -> Result<Place> {
        if self.replies == 1 {
            // Almost all are one command with one key.
            if let Some((policy, words)) = self.commands().next()
                && policy.keys.is_first()
            {
                return Ok(Place::Whole(
                    words.clone().nth(1).map_or(To::Anywhere, |key| To::Slot(slot(key))),
                ));
            }
        }
        let mut plan = Plan::default();
        let mut transaction: Option<Transaction> = None;
        for (policy, words, bytes) in self.encoded() {
            if let Some(open) = &mut transaction {
                open.add(policy, &words, bytes)?;
                if matches!(policy.taken, Taken::Ends) {
                    plan.extend(transaction.take());
                }
            } else if matches!(policy.taken, Taken::Begins) {
                transaction = Some(Transaction::begin(bytes));
            } else {
                plan.add(policy, &words, bytes)?;
            }
        }
        plan.extend(transaction);
        let mut tos = plan.pieces.iter().map(|piece| piece.to);
        let first = tos.next().unwrap_or(To::Anywhere);
        let is_whole = first != To::Primaries
            && tos.all(|to| to == first)
            && plan.units.iter().all(|unit| unit.join == Join::Only);
        if is_whole {
            return Ok(Place::Whole(first));
        }
        if self.blocking != Blocking::No {
            return Err(Error::refused(
                "a command that waits names keys of two slots: a node waits only for its own. Ask slot by slot, or give \
                 the keys one hash tag",
            ));
        }
        Ok(Place::Pieces(plan))
    }

    /// Its units, each as a packet, when all of them go where the whole goes.
    pub(super) fn units(&self) -> Vec<Packet> {
        let mut units: Vec<Packet> = Vec::new();
        let mut is_open = false;
        for (policy, _, bytes) in self.encoded() {
            match units.last_mut().filter(|_| is_open) {
                Some(unit) => {
                    unit.bytes.extend_from_slice(bytes);
                    unit.replies += 1;
                }
                None => units.push(Packet::piece(bytes.to_vec(), 1, self.repeatable)),
            }
            is_open = match policy.taken {
                Taken::Begins => true,
                Taken::Ends => false,
                _ => is_open,
            };
        }
        units
    }
}

/// A transaction on its way into a plan.
struct Transaction {
    piece: Piece,
    key: Option<Vec<u8>>,
}

impl Transaction {
    fn begin(bytes: &[u8]) -> Self {
        let piece = Piece { to: To::Anywhere, bytes: bytes.to_vec(), replies: 1 };
        Self { piece, key: None }
    }

    fn add(&mut self, policy: &Policy, words: &Words<'_>, bytes: &[u8]) -> Result<()> {
        self.piece.bytes.extend_from_slice(bytes);
        self.piece.replies += 1;
        let mut keys = Vec::new();
        // Of commands whose keys are not known the server says whether they are its own.
        let _known = policy.keys.find(words, &mut keys);
        for key in keys {
            match &self.key {
                None => {
                    self.piece.to = To::Slot(slot(key));
                    self.key = Some(key.to_vec());
                }
                Some(other) if slot(other) == slot(key) => {}
                Some(other) => return Err(cross_slot("a transaction", other, key)),
            }
        }
        Ok(())
    }
}

impl Plan {
    fn extend(&mut self, transaction: Option<Transaction>) {
        if let Some(Transaction { piece, .. }) = transaction {
            self.unit(Join::Only, vec![piece]);
        }
    }

    fn unit(&mut self, join: Join, pieces: Vec<Piece>) {
        self.units.push(Unit { join, first: self.pieces.len(), count: pieces.len() });
        self.pieces.extend(pieces);
    }

    fn add(&mut self, policy: &Policy, words: &Words<'_>, bytes: &[u8]) -> Result<()> {
        let mut keys = Vec::new();
        let whole = |to| vec![Piece { to, bytes: bytes.to_vec(), replies: 1 }];
        if policy.keys.find(words, &mut keys).is_none() {
            self.unit(Join::Only, whole(To::Anywhere));
            return Ok(());
        }
        let Some(first) = keys.first() else {
            match on_all_primaries(words)? {
                Some(join) => self.unit(join, whole(To::Primaries)),
                None => self.unit(Join::Only, whole(To::Anywhere)),
            }
            return Ok(());
        };
        let home = slot(first);
        let Some(other) = keys.iter().find(|key| slot(key) != home) else {
            self.unit(Join::Only, whole(To::Slot(home)));
            return Ok(());
        };
        let name = words.clone().next().unwrap_or_default();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let join = match name {
            _ if is("MGET") => Join::Values(Vec::new()),
            _ if is("DEL") || is("UNLINK") || is("EXISTS") || is("TOUCH") => Join::Sum,
            _ => return Err(cross_slot(&String::from_utf8_lossy(name).to_ascii_uppercase(), first, other)),
        };
        let by_slot = by_slot(&keys);
        let pieces = by_slot.iter().map(|(slot, places)| Piece {
            to: To::Slot(*slot),
            bytes: command(name, places.iter().map(|place| keys[*place])),
            replies: 1,
        });
        let pieces = pieces.collect();
        let join = match join {
            Join::Values(_) => Join::Values(by_slot.into_iter().map(|(_, places)| places).collect()),
            join => join,
        };
        self.unit(join, pieces);
        Ok(())
    }
}

/// The places of the keys of each slot, in the order of their slots' first keys.
fn by_slot(keys: &[&[u8]]) -> Vec<(u16, Vec<usize>)> {
    let mut placed: Vec<_> =
        keys.iter().map(|key| slot(key)).enumerate().map(|(place, slot)| (slot, place)).collect();
    placed.sort_unstable();
    let mut slots: Vec<(u16, Vec<usize>)> = Vec::new();
    for (slot, place) in placed {
        match slots.last_mut() {
            Some((last, places)) if *last == slot => places.push(place),
            _ => slots.push((slot, vec![place])),
        }
    }
    slots
}

fn command<'a>(name: &[u8], arguments: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut packet = Packet::pipeline();
    packet.then_encoded(&String::from_utf8_lossy(name), arguments.len());
    packet.arg(name);
    for argument in arguments {
        packet.arg(argument);
    }
    packet.bytes
}

/// What has no key and is meant for all of the cluster's data: how its answers become one. None for what one node
/// answers for all.
fn on_all_primaries(words: &Words<'_>) -> Result<Option<Join>> {
    let mut words = words.clone();
    let name = words.next().unwrap_or_default().to_ascii_uppercase();
    let subcommand = words.next().unwrap_or_default().to_ascii_uppercase();
    Ok(match (name.as_slice(), subcommand.as_slice()) {
        (b"FLUSHDB" | b"FLUSHALL", _)
        | (b"SCRIPT", b"LOAD" | b"FLUSH")
        | (b"FUNCTION", b"LOAD" | b"DELETE" | b"FLUSH" | b"RESTORE")
        | (b"CONFIG", b"SET" | b"RESETSTAT" | b"REWRITE") => Some(Join::Same),
        (b"DBSIZE", _) => Some(Join::Sum),
        (b"KEYS", _) => Some(Join::Concatenated),
        (b"SCRIPT", b"EXISTS") => Some(Join::Least),
        (b"SCAN", _) => {
            return Err(Error::refused(
                "SCAN walks through one server, and this is a cluster: walk through its nodes one by one, with \
                 Connection::primaries() in Rust",
            ));
        }
        _ => None,
    })
}

/// As the server says it, of keys that it need not see for that.
fn cross_slot(what: &str, one: &[u8], other: &[u8]) -> Error {
    Error::cross_slot(format!(
        "{what} names keys of two slots, '{}' and '{}': in a cluster they must be in one. Keys with the same hash tag are, \
         as {{user:5}}:name and {{user:5}}:plan",
        String::from_utf8_lossy(one),
        String::from_utf8_lossy(other)
    ))
}

impl Join {
    /// The replies of a unit. An error reply of a piece is the unit's.
    pub(super) fn replies(&self, mut pieces: Vec<Vec<Value>>) -> Vec<Value> {
        if *self == Self::Only {
            return pieces.pop().unwrap_or_default();
        }
        let answers: Vec<_> = pieces.into_iter().flatten().collect();
        if let Some(error) = answers.iter().position(|answer| matches!(answer, Value::ServerError(_))) {
            return answers.into_iter().skip(error).take(1).collect();
        }
        let list = |answer: Value| match answer {
            Value::Array(values) | Value::Set(values) => values,
            other => vec![other],
        };
        vec![match self {
            Self::Only | Self::Same => answers.into_iter().next().unwrap_or(Value::Nil),
            Self::Sum => Value::Int(answers.iter().filter_map(number).sum()),
            Self::Concatenated => Value::Array(answers.into_iter().flat_map(list).collect()),
            Self::Values(places) => {
                let mut values = vec![Value::Nil; places.iter().map(Vec::len).sum()];
                for (places, answer) in places.iter().zip(answers) {
                    for (place, value) in places.iter().zip(list(answer)) {
                        values[*place] = value;
                    }
                }
                Value::Array(values)
            }
            Self::Least => {
                let mut lists = answers.into_iter().map(list);
                let first = lists.next().unwrap_or_default();
                Value::Array(lists.fold(first, |least, other| {
                    let pairs = least.into_iter().zip(other);
                    pairs
                        .map(|(one, other)| if number(&other) < number(&one) { other } else { one })
                        .collect()
                }))
            }
        }]
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Boolean(truth) => Some(i64::from(*truth)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(commands: &[&[&str]]) -> Packet {
        let mut packet = Packet::pipeline();
        for command in commands {
            let (name, arguments) = command.split_first().unwrap();
            packet.then(name, arguments.len());
            for argument in arguments {
                packet.arg(argument.as_bytes());
            }
        }
        packet
    }

    fn whole(commands: &[&[&str]]) -> To {
        match packet(commands).place().unwrap() {
            Place::Whole(to) => to,
            Place::Pieces(_) => panic!("it goes in pieces"),
        }
    }

    fn pieces(commands: &[&[&str]]) -> Plan {
        match packet(commands).place().unwrap() {
            Place::Whole(_) => panic!("it goes whole"),
            Place::Pieces(plan) => plan,
        }
    }

    fn words(piece: &Piece) -> Vec<String> {
        let packet = Packet::received(piece.bytes.clone(), false).unwrap();
        packet
            .commands()
            .flat_map(|(_, words)| {
                words.map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn what_has_keys_of_one_slot_goes_there_as_it_is() {
        let home = To::Slot(slot(b"a"));
        assert_eq!(whole(&[&["GET", "a"]]), home);
        assert_eq!(whole(&[&["SET", "a", "1"], &["INCR", "{a}b"]]), home);
        assert_eq!(whole(&[&["MGET", "{a}1", "{a}2"]]), home);
        assert_eq!(whole(&[&["RENAME", "{a}1", "{a}2"]]), home);
        assert_eq!(whole(&[&["MULTI"], &["INCR", "a"], &["INCR", "{a}b"], &["EXEC"]]), home);
        assert_eq!(whole(&[&["EVAL", "return 1", "1", "a"]]), home);
        assert_eq!(whole(&[&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">"]]), home);
    }

    #[test]
    fn what_has_no_key_goes_anywhere() {
        for command in [&["PING"][..], &["INFO"], &["EVAL", "return 1", "0"], &["UNHEARDOF", "a"], &["GET"]] {
            assert_eq!(whole(&[command]), To::Anywhere, "{command:?}");
        }
    }

    #[test]
    fn many_keys_go_slot_by_slot_and_come_back_in_their_places() {
        let plan = pieces(&[&["mget", "a", "b", "{a}2"]]);
        let mut sent: Vec<_> = plan.pieces.iter().map(words).collect();
        sent.sort();
        assert_eq!(sent, [vec!["mget", "a", "{a}2"], vec!["mget", "b"]]);
        let value = |key: &str| Value::BulkString(key.as_bytes().to_vec());
        let answers = plan
            .pieces
            .iter()
            .map(|piece| vec![Value::Array(words(piece).iter().skip(1).map(|key| value(key)).collect())]);
        let joined = plan.units[0].join.replies(answers.collect());
        assert_eq!(joined, [Value::Array(vec![value("a"), value("b"), value("{a}2")])]);
        let plan = pieces(&[&["UNLINK", "a", "b", "c"]]);
        assert_eq!(plan.pieces.len(), 3);
        let ones = vec![vec![Value::Int(1)], vec![Value::Int(1)], vec![Value::Int(0)]];
        assert_eq!(plan.units[0].join.replies(ones), [Value::Int(2)]);
    }

    #[test]
    fn a_pipeline_goes_command_by_command_and_a_transaction_whole() {
        let plan = pieces(&[&["SET", "a", "1"], &["MULTI"], &["INCR", "b"], &["EXEC"], &["MGET", "a", "b"]]);
        let shown: Vec<_> = plan.units.iter().map(|unit| (unit.first, unit.count)).collect();
        assert_eq!(shown, [(0, 1), (1, 1), (2, 2)]);
        assert_eq!(words(&plan.pieces[1]), ["MULTI", "INCR", "b", "EXEC"]);
    }

    #[test]
    fn what_cannot_be_taken_apart_is_refused_with_both_keys() {
        for commands in [
            &[&["RENAME", "a", "b"][..]][..],
            &[&["MSET", "a", "1", "b", "2"]],
            &[&["SINTER", "a", "b"]],
            &[&["MULTI"], &["INCR", "a"], &["INCR", "b"], &["EXEC"]],
            &[&["EVAL", "return 1", "2", "a", "b"]],
        ] {
            let Err(error) = packet(commands).place() else { panic!("{commands:?} was taken") };
            assert_eq!(error.code(), Some("CROSSSLOT"));
            let words = error.to_string();
            assert!(words.contains("'a' and 'b'"), "{words}");
        }
    }

    #[test]
    fn what_is_meant_for_all_data_goes_to_all_primaries() {
        let joined = |command: &[&str], answers: Vec<Value>| {
            let plan = pieces(&[command]);
            assert_eq!(plan.pieces[0].to, To::Primaries);
            plan.units[0].join.replies(answers.into_iter().map(|answer| vec![answer]).collect())
        };
        let list = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        assert_eq!(joined(&["FLUSHDB"], vec![Value::Okay, Value::Okay]), [Value::Okay]);
        assert_eq!(joined(&["DBSIZE"], vec![Value::Int(3), Value::Int(4)]), [Value::Int(7)]);
        assert_eq!(joined(&["KEYS", "*"], vec![list(&[1]), list(&[2, 3])]), [list(&[1, 2, 3])]);
        let exists = joined(&["SCRIPT", "EXISTS", "a", "b"], vec![list(&[1, 1]), list(&[0, 1])]);
        assert_eq!(exists, [list(&[0, 1])]);
        assert!(packet(&[&["SCAN", "0"]]).place().is_err());
    }

    #[test]
    fn an_error_of_a_piece_is_the_answer() {
        let error = || redis::parse_redis_value(b"-OOM no room\r\n").unwrap();
        assert_eq!(Join::Sum.replies(vec![vec![Value::Int(1)], vec![error()]]), [error()]);
    }
}
