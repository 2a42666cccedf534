//! The command line: what may be typed, and which part of the library does it.
//!
//! Owns the exit codes: 0 clean, 1 failed at run time, 2 bad usage or configuration. Must never do
//! work of its own beyond printing.

mod options;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use self::options::ConfigOptions;
use crate::app::settings;
use crate::command;
use crate::config::{self, ConfigError, Sources};
use crate::telemetry::logging;
use crate::topology;

/// A slot-aware Redis Cluster proxy: one address, any Redis client.
#[derive(Debug, Parser)]
#[command(name = "slotway", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM or SIGINT; a second signal ends at once.
    Serve(ConfigOptions),
    /// Validate a configuration and print the effective one with the origin of every value.
    Check(ConfigOptions),
    /// Print what a cluster looks like to slotway.
    Topology {
        #[command(flatten)]
        options: ConfigOptions,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the command table: what is routed, split, answered here or refused, and why.
    Commands {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print the table data of this server's COMMAND instead, as src/command/commands.json holds
        /// it. Logs in with SLOTWAY_UPSTREAM_USERNAME and SLOTWAY_UPSTREAM_PASSWORD, where set.
        #[arg(long, value_name = "HOST:PORT")]
        from: Option<String>,
    },
    /// Start a throw-away Redis Cluster and slotway in front of it.
    Demo {
        /// Where clients connect; the next free port is taken if this one is in use.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
        listen: SocketAddr,
        /// Where metrics and probes are served; the next free port is taken if this one is in use.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9145")]
        admin_listen: SocketAddr,
    },
}

/// Why the process ends with another code than 0. The text is for stderr.
enum Failure {
    /// Bad usage or configuration: 2.
    Usage(String),
    /// Failed at run time: 1.
    Runtime(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Parses the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let (code, text) = match run(cli.command) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => (2, text),
        Err(Failure::Runtime(text)) => (1, text),
    };
    let mut stderr = std::io::stderr().lock();
    for line in text.lines() {
        let _closed = writeln!(stderr, "slotway: {line}");
    }
    ExitCode::from(code)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(options) => serve(&options),
        Command::Check(options) => check(&options),
        Command::Topology { options, json } => topology(&options, json),
        Command::Commands { json, from: None } => {
            print(&command::dump::print_table(json));
            Ok(())
        }
        Command::Commands { from: Some(server), .. } => commands_of(&server),
        Command::Demo { listen, admin_listen } => {
            crate::demo::run(listen, admin_listen).map_err(|error| Failure::Runtime(error.to_string()))
        }
    }
}

fn serve(options: &ConfigOptions) -> Result<(), Failure> {
    let loaded = config::load(&options.sources().map_err(Failure::Usage)?)?;
    logging::init(loaded.config.log_format, loaded.config.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    crate::app::run(loaded.config).map_err(|error| Failure::Runtime(error.to_string()))
}

fn check(options: &ConfigOptions) -> Result<(), Failure> {
    let loaded = config::load(&options.sources().map_err(Failure::Usage)?)?;
    let mut stderr = std::io::stderr().lock();
    for warning in &loaded.warnings {
        let _closed = writeln!(stderr, "slotway: warning: {warning}");
    }
    print(&config::render::effective_text(&loaded.config, Some(&loaded.origins)));
    Ok(())
}

fn topology(options: &ConfigOptions, json: bool) -> Result<(), Failure> {
    let config = config::load(&options.sources().map_err(Failure::Usage)?)?.config;
    let credentials = settings::credentials(&config).map_err(Failure::Usage)?;
    let asked = settings::topology(&config, credentials).map_err(Failure::Usage)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| Failure::Runtime(format!("cannot start the runtime: {error}")))?;
    let seen = runtime.block_on(topology::fetch_once(asked)).map_err(|e| Failure::Runtime(e.to_string()))?;
    match json {
        true => print(&(topology::render_json(&seen) + "\n")),
        false => print(&topology::render_text(&seen)),
    }
    Ok(())
}

/// The environment is the only source beside the address: a server's table needs nothing else.
fn commands_of(server: &str) -> Result<(), Failure> {
    let flags = vec![("seeds".to_owned(), server.to_owned(), "--from".to_owned())];
    let config = config::load(&Sources { file: None, env: options::environment(), flags })?.config;
    let user = config.upstream_username.as_deref();
    let password = config.upstream_password.as_ref().map(|secret| String::from_utf8_lossy(secret.expose()));
    for seed in &config.seeds {
        print(&command::dump::fetch(&seed.to_string(), user, password.as_deref()).map_err(Failure::Runtime)?);
    }
    Ok(())
}

/// Writes to stdout; a reader that has gone (`| head`) is no failure.
fn print(text: &str) {
    let _closed = std::io::stdout().lock().write_all(text.as_bytes());
}
