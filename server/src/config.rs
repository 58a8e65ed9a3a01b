//! The configuration file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::LogLevel;
use crate::error::{Error, Result, reason};

/// Options of `cairn start` in a file; the keys are the flags' names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConfigFile {
    /// `--store`
    pub store: Option<PathBuf>,
    /// `--sql-addr`
    pub sql_addr: Option<String>,
    /// `--rpc-addr`
    pub rpc_addr: Option<String>,
    /// `--advertise-addr`
    pub advertise_addr: Option<String>,
    /// `--join`
    pub join: Option<Vec<String>>,
    /// `--http-addr`
    pub http_addr: Option<String>,
    /// `--insecure`
    pub insecure: Option<bool>,
    /// `--cache-size`
    pub cache_size: Option<Bytes>,
    /// `--max-connections`
    pub max_connections: Option<usize>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
}

impl ConfigFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<ConfigFile> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::new(format!("cannot read {}: {}", path.display(), reason(&error))))?;
        ConfigFile::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<ConfigFile> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::new(format!("{}, line {line}: {}", path.display(), error.message()))
        })
    }
}

/// A number of bytes, as a number or as text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Bytes(pub usize);

impl TryFrom<toml::Value> for Bytes {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Bytes, String> {
        match value {
            toml::Value::Integer(bytes) => {
                usize::try_from(bytes).map(Bytes).map_err(|_| format!("{bytes} is not a size"))
            }
            toml::Value::String(text) => parse_bytes(&text).map(Bytes),
            _ => Err("a size is a number of bytes or text such as \"512MiB\"".into()),
        }
    }
}

/// Reads a size such as `512MiB`, `4GB` or `1000000`.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let expected =
        || format!("\"{text}\" is not a size: a number with KiB, MiB or GiB (or KB, MB, GB) is expected");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().map_err(|_| expected())?;
    let unit: usize = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("4 gb"), Ok(4_000_000_000));
        assert_eq!(parse_bytes("10"), Ok(10));
        for bad in ["", "MiB", "-1", "1.5GiB", "1 mile", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_sets_options_and_names_its_mistakes() {
        let path = Path::new("cairn.toml");
        let file =
            ConfigFile::parse("store = \"/d\"\ncache-size = \"1GiB\"\nlog-level = \"warn\"\n", path).unwrap();
        assert_eq!(file.store.as_deref(), Some(Path::new("/d")));
        assert_eq!(file.cache_size, Some(Bytes(1 << 30)));
        assert_eq!(file.log_level, Some(LogLevel::Warn));
        let error = ConfigFile::parse("insecure = true\nstor = 1\n", path).unwrap_err().to_string();
        assert!(error.starts_with("cairn.toml, line 2: unknown field `stor`"), "{error}");
    }
}
