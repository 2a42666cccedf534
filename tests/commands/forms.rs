//! Requests whose keys are looked for: forms written out for commands whose keys move, and generated
//! ones for every command.

use slotway::command::{CommandTable, KeyRule};

use super::words;

/// Compared in the written forms only: Redis looks for the word KEYS from argument 6 on, its key specification says
/// anywhere. It is refused.
const WRITTEN_FORMS_ONLY: &[&str] = &["migrate"];

/// Argument forms in which keys move, written out.
const FORMS: &str = "\
EVAL s 0|EVAL s 0 a|EVAL s 1 a|EVAL s 2 a b c|EVAL s 3 a b|EVAL s -1 a|EVAL s x a|EVAL s 1x a
EVAL s 01 a|EVAL s 99999999999999999999 a
EVALSHA s 2 a b c|EVALSHA_RO s 1 a|EVAL_RO s 2 a b|FCALL f 0|FCALL f 1 a b|FCALL_RO f 2 a b|FCALL f 5 a
XREAD STREAMS a 0|XREAD COUNT 1 STREAMS a b 0 0|XREAD BLOCK 0 streams a 0
XREAD COUNT 1 block 5 Streams a b c 0 0 0|XREAD COUNT 1 STREAMS a|XREAD a b c|XREAD COUNT 1 STREAMS
XREAD STREAMS a b 0
XREADGROUP GROUP g c STREAMS a >|XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >
XREADGROUP GROUP streams c STREAMS a >|XREADGROUP GROUP g c BLOCK 0 STREAMS a b > >
ZUNIONSTORE d 2 a b|ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX|ZUNIONSTORE d 0 a|ZUNIONSTORE d 3 a b
ZUNIONSTORE d -1 a|ZUNIONSTORE d x a|ZINTERSTORE d 1 a|ZDIFFSTORE d 2 a b
ZUNION 2 a b WITHSCORES|ZINTER 1 a|ZDIFF 2 a b|ZDIFF 3 a b|ZINTERCARD 2 a b LIMIT 1|ZINTERCARD 0 a
SINTERCARD 2 a b LIMIT 3|SINTERCARD 2 a|SINTERCARD x a
LMPOP 2 a b LEFT|LMPOP 1 a RIGHT COUNT 2|LMPOP 0 a LEFT|ZMPOP 2 a b MIN|ZMPOP 5 a b MIN
BLMPOP 0 2 a b LEFT|BZMPOP 0 1 a MAX COUNT 2|BZMPOP 0 x a MAX
SORT a|SORT a BY w GET # LIMIT 0 1 ALPHA|SORT a STORE d|SORT a BY store STORE d|SORT a GET store
SORT a LIMIT 0 store|SORT a STORE d STORE e|SORT a store|SORT_RO a BY x GET y|SORT_RO a STORE d
GEORADIUS a 1 2 3 m|GEORADIUS a 1 2 3 m STORE d|GEORADIUS a 1 2 3 m WITHDIST STOREDIST d
GEORADIUS a 1 2 3 m STORE d STOREDIST e|GEORADIUS a 1 2 3 m STORE|GEORADIUS a 1 2 3 m STORE d STOREDIST
GEORADIUSBYMEMBER a m 3 km STORE d|GEORADIUSBYMEMBER a STORE 3 km
GEORADIUSBYMEMBER a m 3 km COUNT 1 storedist d|GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 m
BITOP AND d a|BITOP OR d a b c|BITOP NOT d a|BITFIELD a GET u8 0|BITFIELD a SET u8 0 1
BITFIELD a OVERFLOW SAT INCRBY u8 0 1|BITFIELD a OVERFLOW SAT GET u8 0
BITFIELD a GET u8 0 GET u8 1 SET u8 0 1|BITFIELD a
SET a b|SET a b GET|SET a get|SET a b EX 5 GET|SET a b NX|GETEX a PERSIST
OBJECT ENCODING a|object freq a|OBJECT HELP|OBJECT NOSUCH a|MEMORY USAGE a|MEMORY USAGE a SAMPLES 5
MEMORY DOCTOR x|XGROUP CREATE a g $ MKSTREAM|XGROUP DESTROY a g|XGROUP CREATECONSUMER a g c
XGROUP SETID a g 0|XINFO STREAM a FULL|XINFO GROUPS a|XINFO CONSUMERS a g
MSET a 1 b 2|MSET a 1 b|MSETNX a 1 b 2|MGET a b c|DEL a b|RENAME a b|COPY a b DB 1 REPLACE|SMOVE a b m
RPOPLPUSH a b|LMOVE a b LEFT RIGHT|BLMOVE a b LEFT RIGHT 0|BLPOP a b c 0|BRPOPLPUSH a b 0|BZPOPMIN a b 0
MIGRATE h 1 a 0 9|MIGRATE h 1  0 9|MIGRATE h 1  0 9 KEYS a|MIGRATE h 1  0 9 COPY KEYS a b c
MIGRATE h 1 a 0 9 KEYS b|MIGRATE h 1  0 9 KEYS|MIGRATE h 1  0 9 AUTH p KEYS a b
PFCOUNT a b|PFMERGE d|PFMERGE d a|PFMERGE d a b|PFDEBUG ENCODING a|SUNIONSTORE d a b|SINTERSTORE d a
SDIFFSTORE d a b c|ZRANGESTORE d a 0 -1|LCS a b LEN|TOUCH a b|WATCH a b
SUBSCRIBE a|SSUBSCRIBE a|SPUBLISH a m|PUBLISH a m|PING a|SELECT 0|FLUSHALL ASYNC|SCAN 0|CLIENT ID x
CONFIG GET a|CLUSTER KEYSLOT a|NOSUCH a|RESTORE-ASKING a 0 x|MOVE a 1|DUMP a x|GET a b|GET";

/// Words that mean something to commands whose keys move, and words that do not.
const VOCABULARY: &str = "a,b,c,,0,1,2,3,7,-1,x,1x, 2,+1,LEFT,STORE,storedist,STREAMS,streams,KEYS,COUNT,BLOCK,\
    GROUP,BY,GET,LIMIT,AUTH,WEIGHTS,SAMPLES,*,$";

/// All forms, the same in every run.
pub fn forms() -> Vec<Vec<String>> {
    let mut forms: Vec<Vec<String>> = FORMS.lines().flat_map(|l| l.split('|')).map(words).collect();
    let vocabulary: Vec<&str> = VOCABULARY.split(',').collect();
    let mut random = fastrand::Rng::with_seed(16384);
    for command in CommandTable::builtin().iter().filter(|c| c.subcommands.is_empty()) {
        let name: Vec<String> = command.name.split('|').map(str::to_owned).collect();
        let least = command.entry.arity.unsigned_abs() as usize;
        for argc in least.saturating_sub(1).max(name.len() + 1)..=least + 6 {
            let fill = |word: &dyn Fn(usize) -> String| {
                let mut form = name.clone();
                form.extend((name.len()..argc).map(word));
                form
            };
            forms.push(fill(&|index| format!("k{index}")));
            forms.push(fill(&|index| (index / 2).to_string()));
        }
        let rounds = match command.key_rule {
            _ if WRITTEN_FORMS_ONLY.contains(&command.name) => 0,
            KeyRule::Specs => 400,
            _ => 5,
        };
        for _ in 0..rounds {
            let mut form = name.clone();
            let argc = random.usize(least..least + 8);
            form.extend((name.len()..argc).map(|_| random.choice(&vocabulary).unwrap().to_string()));
            forms.push(form);
        }
    }
    // A request without arguments never reaches GETKEYS: it is itself one argument short then.
    forms.retain(|form| form.len() > 1);
    forms
}
