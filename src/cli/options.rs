//! The flags that make up a configuration, for every subcommand that reads one.

use std::path::PathBuf;

use clap::Args;

use crate::config::Sources;

/// Flags win over the environment (SLOTWAY_…), the environment over the file.
#[derive(Debug, Args)]
pub(super) struct ConfigOptions {
    /// TOML file; `config/slotway.toml` lists every key.
    #[arg(long, value_name = "FILE", env = "SLOTWAY_CONFIG")]
    config: Option<PathBuf>,
    /// A node to learn the cluster from; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    seed: Vec<String>,
    /// What the seeds are: cluster, sentinel or standalone.
    #[arg(long, value_name = "KIND")]
    upstream: Option<String>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where metrics and probes are served.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// Worker threads; 0 means one per CPU.
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Form of the log lines: text or json.
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
    /// Any other key, as `--set request-deadline=5s`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigOptions {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// A message, when the file cannot be read or `--set` has no `=`.
    pub(super) fn sources(&self) -> Result<Sources, String> {
        let file = match &self.config {
            None => None,
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some((path.clone(), text)),
                Err(error) => return Err(format!("--config: cannot read {}: {error}", path.display())),
            },
        };
        Ok(Sources { file, env: environment(), flags: self.flags()? })
    }

    fn flags(&self) -> Result<Vec<(String, String, String)>, String> {
        let mut flags = Vec::new();
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("--set: expected key=value; found {pair:?}"));
            };
            flags.push((key.to_owned(), value.to_owned(), "--set".to_owned()));
        }
        if !self.seed.is_empty() {
            flags.push(("seeds".to_owned(), self.seed.join(","), "--seed".to_owned()));
        }
        let named = [
            ("upstream", &self.upstream),
            ("listen", &self.listen),
            ("admin-listen", &self.admin_listen),
            ("workers", &self.workers),
            ("log-format", &self.log_format),
        ];
        for (key, value) in named {
            flags.extend(value.iter().map(|value| (key.to_owned(), value.clone(), format!("--{key}"))));
        }
        Ok(flags)
    }
}

/// The process' environment. What is not UTF-8 becomes a value that no key accepts.
pub(super) fn environment() -> Vec<(String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}
