//! Users of a node, by its own `/etc/passwd` and `/etc/group`.

use std::fs;
use std::path::PathBuf;

use lifecycle_core::error::ErrorKind;

use crate::failure::Failure;

/// Whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups.
    pub(super) groups: Vec<u32>,
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) shell: String,
}

/// Looks up `name`, `uid` or either with `:group`; root when nothing is said.
pub(super) fn find(wanted: Option<&str>) -> Result<User, Failure> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    find_in(wanted.unwrap_or("0"), &read("/etc/passwd"), &read("/etc/group"))
}

fn find_in(wanted: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let missing = |what: &str| {
        Failure::new(ErrorKind::InvalidInput, format!("the node has no {what} for `{wanted}`; a number always works"))
    };
    let (who, group_name) = wanted.split_once(':').map_or((wanted, None), |(who, group)| (who, Some(group)));
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        let found = name == who || who.parse() == Ok(uid);
        found.then(|| User { uid, gid, groups: vec![], name: name.into(), home: home.into(), shell: shell.into() })
    });
    let mut user = match (entry, who.parse::<u32>()) {
        (Some(user), _) => user,
        (None, Ok(uid)) => {
            let home = if uid == 0 { "/root" } else { "/" };
            User { uid, gid: 0, groups: vec![], name: who.into(), home: home.into(), shell: "/bin/sh".into() }
        }
        (None, Err(_)) => return Err(missing("user")),
    };
    let groups = || {
        group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else { return None };
            Some((name, gid.parse::<u32>().ok()?, members))
        })
    };
    match group_name {
        Some(name) => {
            let known = groups().find(|(found, ..)| *found == name).map(|(_, gid, _)| gid);
            user.gid = known.or_else(|| name.parse().ok()).ok_or_else(|| missing("group"))?;
        }
        None => {
            let is_member = |members: &str| members.split(',').any(|member| member == user.name);
            user.groups = groups().filter(|(_, _, members)| is_member(members)).map(|(_, gid, _)| gid).collect();
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nfrr:x:92:92:FRR,,,:/var/run/frr:/bin/false\nbroken line\n";
    const GROUP: &str = "root:x:0:\nfrr:x:92:\nfrrvty:x:85:frr,admin\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let frr = find_in("frr", PASSWD, GROUP).unwrap();
        assert_eq!((frr.uid, frr.gid, frr.groups.as_slice()), (92, 92, &[85][..]));
        assert_eq!(find_in("92", PASSWD, GROUP).unwrap(), frr);
        let other = find_in("frr:frrvty", PASSWD, GROUP).unwrap();
        assert_eq!((other.gid, other.groups.len()), (85, 0));
        let unknown = find_in("1234:7", PASSWD, GROUP).unwrap();
        assert_eq!((unknown.uid, unknown.gid), (1234, 7));
        assert_eq!(find_in("0", "", "").unwrap().home, std::path::Path::new("/root"));
        assert!(find_in("nobody", PASSWD, GROUP).unwrap_err().message.contains("`nobody`"));
        assert!(find_in("frr:nogroup", PASSWD, GROUP).is_err());
    }
}
