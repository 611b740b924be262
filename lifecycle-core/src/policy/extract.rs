//! What a command that prints a node's configuration printed, as the text that is kept.

use super::log_scan::plain;
use crate::plugin::vendor::SaveConfig;

/// What was printed cannot be kept as a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// There is nothing in it.
    #[error("the command printed no configuration")]
    Empty,
    /// There is more than may be.
    #[error("the configuration is longer than {limit} bytes; raise `save.limit` of its kind")]
    TooLong {
        /// Bytes that it may have.
        limit: u32,
    },
}

/// The configuration in what a command printed: lines as they are, without what a terminal would obey, without the lines
/// that the kind says are no part of it, and without empty lines around it.
///
/// # Errors
/// When nothing is left, or more than the kind allows.
pub fn configuration(save: &SaveConfig, printed: &[u8]) -> Result<String, NotKept> {
    let text = plain(printed);
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| line.trim_end_matches('\r'))
        .map(|line| line.rsplit('\r').next().unwrap_or(line))
        .filter(|line| !save.drop.iter().any(|pattern| pattern.is_in(line)))
        .collect();
    let first = lines.iter().position(|line| !line.trim().is_empty()).ok_or(NotKept::Empty)?;
    let last = lines.iter().rposition(|line| !line.trim().is_empty()).unwrap_or(first);
    let mut kept = lines[first..=last].join("\n");
    kept.push('\n');
    if kept.len() > save.limit as usize {
        return Err(NotKept::TooLong { limit: save.limit });
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(drop: &[&str]) -> SaveConfig {
        serde_json::from_value(serde_json::json!({"command": ["show"], "limit": 60, "drop": drop})).unwrap()
    }

    #[test]
    fn lines_are_kept_and_noise_is_not() {
        let printed = b"\x1b[2KBuilding configuration...\r\n\r\n  hostname r1\r\n!\r\ninterface eth1 \r\n\r\n";
        let text = configuration(&save(&["^Building configuration"]), printed).unwrap();
        assert_eq!(text, "  hostname r1\n!\ninterface eth1 \n");
        assert_eq!(configuration(&save(&[]), b"10%\r99%\rhostname r1").unwrap(), "hostname r1\n");
        assert_eq!(configuration(&save(&[]), b" \r\n\n").unwrap_err(), NotKept::Empty);
        assert_eq!(configuration(&save(&["."]), b"a\nb").unwrap_err(), NotKept::Empty);
        assert_eq!(configuration(&save(&[]), &[b'x'; 60]).unwrap_err(), NotKept::TooLong { limit: 60 });
        assert_eq!(configuration(&save(&[]), &[b'x'; 59]).unwrap().len(), 60);
    }
}
