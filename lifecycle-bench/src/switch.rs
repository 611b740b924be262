//! The floor of a switch: its database with nothing around it, and one transaction for all that is asked for.

use std::time::{Duration, Instant};

use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use lifecycle_network_ovs::ovsdb::{Client, Operation, Replica, named, set};
use serde_json::json;

use crate::measure::{Result, millis};

const DATABASE: &str = "Open_vSwitch";
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the database of a switch.
#[derive(Debug)]
pub(crate) struct Database(Client);

impl Database {
    pub(crate) fn of(switch: &OpenVswitch) -> Result<Self> {
        let client = Client::start(switch.database().parse()?, DATABASE, &[(DATABASE, &["cur_cfg"])], |_| {})?;
        client.ready(PATIENCE)?;
        Ok(Self(client))
    }

    /// Adds ports, each with its tag, to a bridge. Milliseconds until the switch has them.
    pub(crate) fn add_ports(&self, bridge: &str, ports: &[(String, usize)]) -> Result<f64> {
        let mut operations = Vec::new();
        for (port, tag) in ports {
            let interface = format!("i_{port}");
            operations.push(Operation::insert("Interface", &interface, json!({ "name": port })));
            let row = json!({ "name": port, "tag": tag, "interfaces": named(&interface) });
            operations.push(Operation::insert("Port", port, row));
        }
        let ports = set(ports.iter().map(|(port, _)| named(port)));
        operations.push(Operation::mutate("Bridge", &[("name", "==", json!(bridge))], &[("ports", "insert", ports)]));
        self.change(operations)
    }

    /// Gives ports other tags. Milliseconds until the switch has carried it out.
    pub(crate) fn set_tags<'a>(&self, ports: impl Iterator<Item = (&'a str, usize)>) -> Result<f64> {
        let set = |(port, tag)| Operation::update("Port", &[("name", "==", json!(port))], json!({ "tag": tag }));
        self.change(ports.map(set).collect())
    }

    fn change(&self, mut operations: Vec<Operation>) -> Result<f64> {
        operations.push(Operation::mutate(DATABASE, &[], &[("next_cfg", "+=", json!(1))]));
        operations.push(Operation::select(DATABASE, &[], &["next_cfg"]));
        let begin = Instant::now();
        let done = self.0.transact(DATABASE, &operations, PATIENCE)?;
        let number = done.last().and_then(|done| done.rows.first()?.integer("next_cfg"));
        let number = number.ok_or("the database does not tell the configuration's number")?;
        let carried_out = |db: &Replica| db.rows(DATABASE).next()?.1.integer("cur_cfg").filter(|done| *done >= number);
        self.0.wait(PATIENCE, carried_out).ok_or("the switch does not take up a change")?;
        Ok(millis(begin))
    }
}
