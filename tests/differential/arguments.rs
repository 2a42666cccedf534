//! Makes requests of one command from its COMMAND DOCS arguments, so that a wanted option is among
//! them; and requests that are wrong on purpose.

use fastrand::Rng;
use slotway::command::data::{Argument, docs};

use super::keys::{self, Kind, Spread};
use super::values::{self, Supplies};

/// One argument of the documentation, numbered in the order of reading.
pub struct Node {
    /// Its number among the command's arguments.
    pub id: usize,
    /// The number after those of its children.
    end: usize,
    arg: &'static Argument,
    children: Vec<Node>,
}

/// What a request is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// No option.
    Bare,
    /// Every option at once.
    Full,
    /// Whatever chance brings.
    Any,
    /// This argument, by its number.
    With(usize),
    /// Keys of another type.
    WrongType,
    /// Keys that are not there.
    Missing,
    /// Fewer arguments than needed.
    TooFew,
    /// An argument more than fits, or a word nobody knows.
    TooMany,
    /// One argument is no such thing.
    Broken,
}

/// The forms every command is generated in, besides one for each of its arguments.
pub const FORMS: &[Form] = &[
    Form::Bare,
    Form::Full,
    Form::Any,
    Form::WrongType,
    Form::Missing,
    Form::TooFew,
    Form::TooMany,
    Form::Broken,
];

/// A command as the generator sees it.
pub struct Shape {
    /// Full name, lower case.
    pub name: &'static str,
    /// Redis' group of it.
    pub group: &'static str,
    nodes: Vec<Node>,
    /// How many arguments its documentation names, inner ones counted.
    pub arguments: usize,
}

/// A request, and what of the generator's knowledge others need.
#[derive(Clone, Debug, Default)]
pub struct Made {
    pub args: Vec<Vec<u8>>,
    /// The keys in it, with what they are thought to hold.
    pub keys: Vec<(Kind, Vec<u8>)>,
    /// Numbers of the documented arguments in it.
    pub shown: Vec<usize>,
}

impl Shape {
    /// Every documented command by name, containers left out.
    pub fn all() -> Vec<Shape> {
        let containers: Vec<&str> = docs().keys().filter_map(|name| Some(name.split_once('|')?.0)).collect();
        let leaves = docs().iter().filter(|(name, _)| !containers.contains(&name.as_str()));
        leaves.map(|(name, docs)| Shape::of(name, &docs.group, &docs.arguments)).collect()
    }

    fn of(name: &'static str, group: &'static str, arguments: &'static [Argument]) -> Shape {
        let mut next = 0;
        let nodes = number(arguments, &mut next);
        Shape { name, group, nodes, arguments: next }
    }

    /// All forms: the general ones, and one for each argument.
    pub fn forms(&self) -> impl Iterator<Item = Form> + use<> {
        FORMS.iter().copied().chain((0..self.arguments).map(Form::With))
    }

    /// True if keys are among its arguments.
    pub fn has_keys(&self) -> bool {
        fn any(nodes: &[Node]) -> bool {
            nodes.iter().any(|node| node.arg.kind == "key" || any(&node.children))
        }
        any(&self.nodes)
    }

    /// A request in this form.
    pub fn make(&self, form: Form, spread: Spread, supplies: &Supplies, random: &mut Rng) -> Made {
        let mut maker = Maker {
            shape: self,
            form,
            spread,
            supplies,
            random,
            made: Made::default(),
            numkeys: None,
            counted: 0,
        };
        maker.name();
        maker.arguments();
        maker.settle_numkeys();
        maker.spoil();
        maker.made
    }
}

fn number(arguments: &'static [Argument], next: &mut usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for arg in arguments {
        let id = *next;
        *next += 1;
        let children = number(&arg.arguments, next);
        nodes.push(Node { id, end: *next, arg, children });
    }
    nodes
}

struct Maker<'a> {
    shape: &'a Shape,
    form: Form,
    spread: Spread,
    supplies: &'a Supplies,
    random: &'a mut Rng,
    made: Made,
    /// Where the number of keys stands.
    numkeys: Option<usize>,
    /// Keys since then, or since the word STREAMS.
    counted: usize,
}

impl Maker<'_> {
    fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }

    fn name(&mut self) {
        for part in self.shape.name.split('|') {
            let word = self.any_case(part);
            self.made.args.push(word);
        }
    }

    /// Mostly upper case, as people write them.
    fn any_case(&mut self, word: &str) -> Vec<u8> {
        match self.random.u8(..10) {
            0 => word.to_lowercase().into_bytes(),
            1 => {
                let random = &mut *self.random;
                word.bytes()
                    .map(|b| if random.bool() { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() })
                    .collect()
            }
            _ => word.to_uppercase().into_bytes(),
        }
    }

    fn arguments(&mut self) {
        let shape = self.shape;
        for node in &shape.nodes {
            self.node(node);
        }
        if shape.nodes.is_empty() && undocumented(shape.name) {
            for _ in 0..self.random.usize(..4) {
                let text = values::text(self.random);
                self.made.args.push(text);
            }
        }
    }

    fn wanted(&self, node: &Node) -> bool {
        matches!(self.form, Form::With(id) if (node.id..node.end).contains(&id))
    }

    fn has(&self, node: &Node, flag: &str) -> bool {
        node.arg.flags.iter().any(|given| given == flag)
    }

    fn node(&mut self, node: &Node) {
        if self.has(node, "optional") && !self.wanted(node) {
            let percent = match self.form {
                Form::Bare | Form::TooFew => 0,
                Form::Full => 100,
                _ => 30,
            };
            if !self.chance(percent) {
                return;
            }
        }
        self.made.shown.push(node.id);
        let repeats = self.repeats(node);
        for round in 0..repeats {
            if let Some(token) = &node.arg.token
                && (round == 0 || self.has(node, "multiple_token"))
            {
                let token = if token == "\"\"" { Vec::new() } else { self.any_case(token) };
                if token.eq_ignore_ascii_case(b"streams") {
                    self.counted = 0;
                }
                self.made.args.push(token);
            }
            self.content(node, round);
        }
    }

    fn repeats(&mut self, node: &Node) -> usize {
        if !self.has(node, "multiple") {
            return 1;
        }
        let one_per_key = matches!(
            (self.shape.name, node.arg.name.as_str()),
            ("xread" | "xreadgroup", "id") | (_, "weight")
        );
        if one_per_key && self.counted > 0 && !self.chance(7) {
            return self.counted;
        }
        if self.chance(50) { 1 } else { self.random.usize(2..5) }
    }

    fn content(&mut self, node: &Node, round: usize) {
        match node.arg.kind.as_str() {
            "pure-token" => {}
            "oneof" => {
                let wanted = node.children.iter().find(|child| round == 0 && self.wanted(child));
                let child =
                    wanted.unwrap_or_else(|| &node.children[self.random.usize(..node.children.len())]);
                self.node(child);
            }
            "block" => node.children.iter().for_each(|child| self.node(child)),
            "key" => self.key(&node.arg.name),
            _ if node.arg.name == "numkeys" => {
                self.numkeys = Some(self.made.args.len());
                self.counted = 0;
                self.value(node);
            }
            _ => self.value(node),
        }
    }

    fn value(&mut self, node: &Node) {
        let value = values::value(self.shape.name, node.arg, self.supplies, self.random);
        self.made.args.push(value);
    }

    fn key(&mut self, name: &str) {
        let fitting = keys::fitting(self.shape.group, self.shape.name);
        let any = |from: &[Kind], random: &mut Rng| from[random.usize(..from.len())];
        let target = ["destination", "newkey", "dst", "destkey"].contains(&name);
        let chance = self.random.u8(..100);
        let kind = match self.form {
            Form::WrongType => any(keys::FILLED, self.random),
            Form::Missing => Kind::Missing,
            _ if target && chance < 55 => Kind::Target,
            _ if chance < 86 => any(fitting, self.random),
            _ if chance < 93 => Kind::Missing,
            _ => any(keys::FILLED, self.random),
        };
        let key = keys::key(kind, self.spread, self.random);
        self.made.args.push(key.clone());
        self.made.keys.push((kind, key));
        self.counted += 1;
    }

    /// Puts the right number of keys in its place, most of the time.
    fn settle_numkeys(&mut self) {
        if let Some(index) = self.numkeys
            && !self.chance(6)
        {
            self.made.args[index] = self.counted.to_string().into_bytes();
        }
    }

    /// What makes a request wrong, or unusual.
    fn spoil(&mut self) {
        let name = self.shape.name.split('|').count();
        let args = &mut self.made.args;
        match self.form {
            Form::TooFew => {
                let left = self.random.usize(name.min(args.len() - 1).max(1)..args.len().max(2));
                args.truncate(left);
            }
            Form::TooMany => {
                let any = may_break(self.shape.name, args);
                for _ in 0..self.random.usize(1..4) {
                    let text =
                        if any && self.random.bool() { values::text(self.random) } else { b"BOGUS".to_vec() };
                    args.push(text);
                }
            }
            Form::Broken if args.len() > name && may_break(self.shape.name, args) => {
                let index = self.random.usize(name..args.len());
                let hostile = values::HOSTILE[self.random.usize(..values::HOSTILE.len())].to_vec();
                let gone = std::mem::replace(&mut args[index], hostile);
                self.made.keys.retain(|(_, key)| *key != gone);
            }
            Form::Any if args.len() > name + 2 && self.random.u8(..10) == 0 => {
                let (a, b) = (self.random.usize(name..args.len()), self.random.usize(name..args.len()));
                if may_break(self.shape.name, args) {
                    args.swap(a, b);
                }
            }
            _ => {}
        }
    }
}

/// Commands that take arguments the documentation does not name.
fn undocumented(name: &str) -> bool {
    ["command|getkeys", "command|getkeysandflags", "debug", "replconf", "quit"].contains(&name)
}

/// A waiting command whose timeout is changed could wait for ever.
fn may_break(name: &str, args: &[Vec<u8>]) -> bool {
    let blocks = args.iter().any(|arg| arg.eq_ignore_ascii_case(b"block"));
    let waits = name.starts_with('b') && (name.contains("pop") || name.contains("move"));
    !blocks && !waits && !["wait", "client|pause", "client|reply"].contains(&name)
}
