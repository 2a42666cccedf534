//! Keys equal what COMMAND GETKEYSANDFLAGS of a real server says, for every command of the table.

use slotway::command::keys::keys_with_use;
use slotway::command::{CommandTable, KeyError, Lookup, find_keys};

use super::forms::forms;
use super::{Cut, NOT_IN_SERVER, dump, request, same_version, words};
use crate::support::resp::Value;
use crate::support::server::Server;

/// Where `find_keys` is right and COMMAND GETKEYS refuses: PFMERGE without sources is a valid command, and a
/// cluster node routes it by its one key.
const ROUTED_THOUGH_GETKEYS_REFUSES: &[&str] = &["pfmerge"];

/// How the key is used is compared in well-formed requests only: Redis takes words it does not know for writes.
const USE_COMPARED_WELL_FORMED: &[&str] = &["bitfield"];

/// Keys with their use, or an error.
type Keys = Result<Vec<(String, Vec<String>)>, String>;

/// What we would answer to COMMAND GETKEYSANDFLAGS: keys and use, or the error.
fn our_keys(form: &[String]) -> Keys {
    let cut = Cut::new(form);
    match CommandTable::builtin().lookup(&cut.args()) {
        Lookup::Found(command) => {
            let keys = keys_with_use(command, &cut.args()).map_err(|e| e.to_string())?;
            Ok(keys.into_iter().map(|(index, how)| (form[index as usize].clone(), how.to_vec())).collect())
        }
        _ => Err("ERR Invalid command specified".into()),
    }
}

fn copy_use(ours: &mut Keys, theirs: &Keys) {
    if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
        ours.iter_mut().zip(theirs).for_each(|(our, their)| our.1.clone_from(&their.1));
    }
}

fn their_keys(reply: Value) -> Keys {
    match reply {
        Value::Error(error) => Err(error),
        Value::Array(keys) => Ok(keys.into_iter().map(one_key).collect()),
        other => panic!("{other:?}"),
    }
}

fn one_key(frame: Value) -> (String, Vec<String>) {
    let Value::Array(pair) = frame else { panic!("{frame:?}") };
    let [key, Value::Array(how)] = pair.as_slice() else { panic!("{pair:?}") };
    (key.text(), how.iter().map(Value::text).collect())
}

/// Redis names the destination of a lenient reading last, we name it where it stands.
fn sorted(mut keys: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    keys.sort();
    keys
}

#[test]
fn keys_are_those_of_getkeys() {
    need_redis!();
    let server = Server::standalone(&[]);
    if !same_version(&dump(&server, None)) {
        return;
    }
    let forms = forms();
    let mut client = server.client();
    let (mut keys, mut errors, mut routed) = (0, 0, Vec::new());
    for batch in forms.chunks(200) {
        let prefix = words("COMMAND GETKEYSANDFLAGS");
        let bytes: Vec<u8> = batch.iter().flat_map(|form| request(&[&prefix[..], form].concat())).collect();
        client.send(&bytes);
        for form in batch {
            let theirs = their_keys(client.value());
            if NOT_IN_SERVER.contains(&form[..2].join("|").to_lowercase().as_str())
                || NOT_IN_SERVER.contains(&form[0].to_lowercase().as_str())
            {
                assert_eq!(theirs, Err("ERR Invalid command specified".into()));
                continue;
            }
            let mut ours = our_keys(form);
            if USE_COMPARED_WELL_FORMED.contains(&form[0].as_str()) {
                copy_use(&mut ours, &theirs);
            }
            assert_eq!(ours.map(sorted), theirs.clone().map(sorted), "{form:?}");
            if theirs.is_ok() {
                keys += 1
            } else {
                errors += 1
            }
            if let Some(name) = check_routing(form, theirs) {
                routed.push(name);
            }
        }
    }
    eprintln!("{} forms: {keys} with keys, {errors} errors", forms.len());
    eprintln!("cannot be compared (not in the server): {NOT_IN_SERVER:?}");
    eprintln!("routed though GETKEYS refuses them: {routed:?}");
    routed.sort_unstable();
    routed.dedup();
    assert_eq!(routed, ROUTED_THOUGH_GETKEYS_REFUSES);
}

/// `find_keys`, which routes, agrees with GETKEYS; the name of the command where it is right not to.
fn check_routing(form: &[String], theirs: Keys) -> Option<&'static str> {
    let cut = Cut::new(form);
    let Lookup::Found(command) = CommandTable::builtin().lookup(&cut.args()) else { return None };
    let mut out = Vec::new();
    let found = find_keys(command, &cut.args(), &mut out);
    let names = |out: &[u32]| out.iter().map(|&i| form[i as usize].clone()).collect::<Vec<_>>();
    match theirs {
        Ok(keys) => {
            let (mut ours, mut theirs) = (names(&out), keys.into_iter().map(|k| k.0).collect::<Vec<_>>());
            ours.sort();
            theirs.sort();
            assert_eq!((found, ours), (Ok(()), theirs), "{form:?}");
        }
        Err(error) if error == KeyError::NoKeys.to_string() => {
            assert_eq!((found, out.len()), (Ok(()), 0), "{form:?}")
        }
        Err(error) if error == KeyError::Invalid.to_string() => {
            if found.is_ok() {
                return Some(command.name);
            }
            assert!(out.is_empty(), "{form:?}");
        }
        Err(_) => {}
    }
    None
}
