//! Tests of `load`: precedence, origins and the messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;

fn sources(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let seeds = ("SLOTWAY_SEEDS".to_owned(), "localhost".to_owned());
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    Sources {
        file: Some(("s.toml".into(), file.to_owned())),
        env: std::iter::once(seeds).chain(env).collect(),
        flags: flags.iter().map(|(k, v)| (k.to_string(), v.to_string(), format!("--{k}"))).collect(),
    }
}

fn problems(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(&sources(file, env, flags)).expect_err("should not load").to_string()
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> &'a Origin {
    &loaded.origins[Key::by_name(key).unwrap().index()]
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = "# first\nworkers = 1\nmax-clients = 1\nlisten = \"127.0.0.1:1\"\n";
    let env = [("SLOTWAY_WORKERS", "2"), ("SLOTWAY_MAX_CLIENTS", "2")];
    let loaded = load(&sources(file, &env, &[("workers", "3")])).unwrap();
    assert_eq!((loaded.config.workers, loaded.config.max_clients), (3, 2));
    assert_eq!(loaded.config.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(origin(&loaded, "workers"), &Origin::Flag("--workers".into()));
    assert_eq!(origin(&loaded, "max-clients"), &Origin::Env("SLOTWAY_MAX_CLIENTS".into()));
    assert_eq!(origin(&loaded, "listen"), &Origin::File("s.toml".into(), 4));
    assert_eq!(origin(&loaded, "log-format"), &Origin::Default);
}

#[test]
fn every_key_is_read_from_the_environment() {
    for key in KEYS {
        let variable = key.env_name();
        assert!(
            !ENV_IGNORED.iter().any(|prefix| variable.starts_with(prefix)),
            "{variable} would be ignored"
        );
        assert!(!ENV_NOT_KEYS.contains(&variable.as_str()), "{variable} has another meaning");
        let mut loader = Loader::new();
        loader.environment(&[(variable, "\u{1}not a value of any kind but text".to_owned())]);
        assert_eq!(
            loader.problems.len() + loader.origins.iter().filter(|o| **o != Origin::Default).count(),
            1
        );
    }
}

#[test]
fn the_flags_name_works_as_a_variable_too() {
    let seeds = |env: &[(&str, &str)]| {
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let loaded = load(&Sources { env, ..Sources::default() }).unwrap();
        loaded.config.seeds.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(seeds(&[("SLOTWAY_SEED", "a,b:1")]), ["a:6379", "b:1"]);
    assert_eq!(seeds(&[("SLOTWAY_SEEDS", "a"), ("SLOTWAY_SEED", "b")]), ["a:6379"]);
}

#[test]
fn what_kubernetes_injects_is_ignored() {
    let env = [
        ("SLOTWAY_PORT", "tcp://10.0.0.1:6379"),
        ("SLOTWAY_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("SLOTWAY_SERVICE_HOST", "10.0.0.1"),
        ("SLOTWAY_SERVICE_PORT", "6379"),
    ];
    assert!(load(&sources("", &env, &[])).unwrap().warnings.is_empty());
    let odd = load(&sources("", &[("SLOTWAY_WORKER", "1"), ("OTHER", "1")], &[])).unwrap();
    assert_eq!(odd.warnings, ["environment SLOTWAY_WORKER: no key has that name; it is ignored"]);
}

#[test]
fn messages_name_the_line_the_key_and_what_was_expected() {
    let text = problems("a = 1\n\nworkers = \"many\"\nconnect-timeout = 5\nlog-format = \"xml\"\n", &[], &[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "s.toml line 1: unknown key `a`: expected one of the keys that `slotway check` lists"
    );
    assert_eq!(lines[1], "s.toml line 3: key `workers`: expected a whole number, 0 or more; found string");
    assert_eq!(
        lines[2],
        "s.toml line 4: key `connect-timeout`: expected a duration with a unit, such as 500ms, 5s or 2m; found integer"
    );
    assert_eq!(lines[3], "s.toml line 5: key `log-format`: expected text or json; found \"xml\"");
    assert!(problems("worker = 1", &[], &[]).ends_with("unknown key `worker`: did you mean `workers`?"));
    assert!(problems("x = \n", &[], &[]).starts_with("s.toml line 1: "));
    assert!(
        problems("", &[("SLOTWAY_WORKERS", "-1")], &[])
            .starts_with("environment SLOTWAY_WORKERS: key `workers`")
    );
    assert!(problems("", &[], &[("nonsense", "1")]).contains("--nonsense: unknown key `nonsense`"));
}

#[test]
fn keys_that_belong_together_are_checked() {
    let cases = [
        (
            "drain-timeout = \"1s\"",
            "key `drain-accept-grace`: expected at most `drain-timeout` = 1s; found 2s",
        ),
        ("drain-timeout = \"0s\"", "key `drain-timeout`: expected more than nothing; found \"0s\""),
        ("listen = \"1.1.1.1:9\"\nadmin-listen = \"1.1.1.1:9\"", "found 1.1.1.1:9 twice"),
        ("query-buffer-max = \"1MiB\"", "key `bulk-bytes-max`: expected at most `query-buffer-max` = 1MiB"),
        ("query-buffer-max = \"4GiB\"", "expected less than 4GiB"),
        ("upstream-client-name = \"a b\"", "printable ASCII"),
        ("workers = 5000", "at most 1024"),
        (
            "read-from = \"nearest\"\nreplica-max-lag = \"2s\"",
            "key `replica-max-lag`: expected at least 3 times `probe-interval` = 1s; found 2s",
        ),
        ("read-from-readonly = \"prefer-replica\"\nprobe-interval = \"4s\"", "expected at least 3 times"),
        (
            "read-from = \"replica\"",
            "expected primary, prefer-primary, prefer-replica, replica-only or nearest",
        ),
        ("node-zones = [\"10.0.0.0/8\"]", "expected a list of CIDR=zone or host=zone"),
        ("client-password = \"a\"\nclient-password-file = \"/x\"", "expected only one of them"),
        (
            "client-password-file = \"/does/not/exist\"",
            "key `client-password-file`: cannot read /does/not/exist",
        ),
    ];
    for (file, expected) in cases {
        let text = problems(file, &[], &[]);
        assert!(text.contains(expected), "{file}\n{text}");
    }
    assert!(load(&sources("replica-max-lag = \"2s\"", &[], &[])).is_ok(), "nobody reads from replicas");
    let zones = load(&sources("node-zones = [\"10.0.1.0/24=a\", \"redis-b-*=b\"]", &[], &[])).unwrap();
    assert_eq!(crate::config::Value::show(&zones.config.node_zones), "10.0.1.0/24=a,redis-b-*=b");
    let none = load(&Sources::default()).expect_err("no seeds").to_string();
    assert!(none.contains("key `seeds`: expected at least one node"), "{none}");
    assert_eq!(load(&sources("request-deadline = \"2s\"", &[], &[])).unwrap().warnings.len(), 2);
}

#[test]
fn what_is_about_sentinels_means_nothing_without_them() {
    let keys = "sentinel-master = \"other\"\nsentinel-password = \"hush\"\n";
    let with = |upstream: &str| load(&sources(keys, &[], &[("upstream", upstream)])).unwrap();
    assert!(with("sentinel").warnings.is_empty());
    for upstream in ["cluster", "standalone"] {
        let warnings = with(upstream).warnings.join("\n");
        assert!(
            warnings.contains("`sentinel-master` has no effect") && warnings.contains("`sentinel-password`")
        );
        assert!(warnings.contains(upstream) && !warnings.contains("hush"), "{warnings}");
    }
    let wrong = problems("upstream = \"single\"\n", &[], &[]);
    assert!(wrong.contains("expected cluster, sentinel or standalone"), "{wrong}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "hunter2\r\n").unwrap();
    let file = format!("upstream-password-file = {path:?}\n");
    let loaded = load(&sources(&file, &[("SLOTWAY_CLIENT_PASSWORD", "geheim")], &[])).unwrap();
    assert_eq!(loaded.config.upstream_password.as_ref().unwrap().expose(), b"hunter2");
    assert_eq!(origin(&loaded, "upstream-password"), &Origin::SecretFile(path.clone()));
    let shown = crate::config::render::effective_text(&loaded.config, Some(&loaded.origins));
    assert!(shown.contains("client-password = \"***\""), "{shown}");
    for secret in ["hunter2", "geheim"] {
        assert!(!format!("{loaded:?}{shown}").contains(secret));
    }
    std::fs::write(&path, "\n").unwrap();
    assert!(problems(&file, &[], &[]).contains("is empty, expected a password"));
    assert!(
        problems("", &[], &[("client-password", "geheim")]).contains("expected in a file or the environment")
    );
    assert!(!problems("client-password = [\"geheim\"]", &[], &[]).contains("geheim"));
}

#[test]
fn values_of_all_kinds_are_read() {
    let file = "seeds = [\"a:1\", \"[::1]:2\"]\nmulti-key-split = false\nbulk-bytes-max = 1000\nowner-wait = \"0s\"\n";
    let mut plain = sources(file, &[], &[]);
    plain.env.clear();
    let config = load(&plain).unwrap().config;
    assert_eq!(config.seeds.len(), 2);
    assert!(!config.multi_key_split);
    assert_eq!((config.bulk_bytes_max, config.owner_wait), (1000, Duration::ZERO));
}

#[test]
fn the_generated_file_is_the_default() {
    let mut plain = sources(&crate::config::render::file_text(), &[], &[]);
    plain.env.clear();
    plain.flags.push(("seeds".into(), "x:1".into(), "--seed".into()));
    let mut config = load(&plain).unwrap().config;
    config.seeds.clear();
    assert_eq!(config, Config::default());
}
