//! The switch's database: which tables matter, how ports are read and written.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::id::ControllerId;
use lifecycle_core::name::IfName;
use lifecycle_linux::wiring::label::{Label, Owner, text_owner};
use serde_json::{Value, json};

use crate::ovsdb::{Operation, Replica, Row, Uuid, map, named, set};
use crate::tunnel::{Options, VXLAN};

pub(crate) const DATABASE: &str = "Open_vSwitch";

/// The lock that `ovs-vswitchd` holds in the database as long as it lives.
pub(crate) const LOCK: &str = "ovs_vswitchd";

/// What of the database is watched.
pub(crate) const WATCHED: &[(&str, &[&str])] = &[
    (DATABASE, &["bridges", "cur_cfg"]),
    ("Bridge", &["name", "ports", "datapath_type", "external_ids", "other_config"]),
    ("Port", &["name", "interfaces", "tag", "vlan_mode", "qos", "external_ids"]),
    ("QoS", &["type", "external_ids"]),
    ("Interface", &["name", "type", "options", "ofport", "ifindex", "error", "external_ids"]),
];

/// Key in `external_ids` under which a port, and its interface, bear their label.
pub(crate) const LABEL: &str = "lifecycle";
/// Key in `external_ids` under which a bridge bears its controller, and a port its bridge.
pub(crate) const CONTROLLER: &str = "lifecycle-controller";
const BRIDGE: &str = "lifecycle-bridge";
/// Type of datapaths in user space.
const USERSPACE: &str = "netdev";
/// Key in a bridge's `other_config`, which has it pass spanning tree, LACP, LLDP and 802.1X as a cable does.
const PASS_ALL: &str = "forward-bpdu";
/// The type of a row by which the switch keeps its hands off what slows a port down.
const HANDS_OFF: &str = "linux-noop";
/// How a port passes frames: all of them, with or without tags of their own, within its segment.
const VLAN_MODE: &str = "dot1q-tunnel";

/// A port of a link as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) tag: Option<u32>,
    /// It passes all frames within its segment.
    pub(crate) passes_all: bool,
    /// What the switch is told about what slows it down.
    pub(crate) qos: Option<Uuid>,
    /// Number that the switch gave it; below zero when it could not be attached.
    pub(crate) number: Option<i64>,
    /// Index of the interface that the switch took for it.
    pub(crate) ifindex: Option<u32>,
    /// Why the switch could not attach it.
    pub(crate) error: Option<String>,
    /// What is said of it as a tunnel, if it is one.
    pub(crate) tunnel: Option<Options>,
}

impl Port {
    /// The port in a row.
    pub(crate) fn by_uuid(db: &Replica, uuid: &Uuid, controller: ControllerId) -> Option<Self> {
        let row = db.row("Port", uuid)?;
        let interface = db.referred(row, "interfaces", "Interface").next().map(|(_, row)| row);
        Some(Self {
            uuid: uuid.clone(),
            name: row.text("name")?.to_owned(),
            owner: text_owner(row.map("external_ids").get(LABEL).copied(), controller),
            tag: row.integer("tag").and_then(|tag| tag.try_into().ok()),
            passes_all: row.text("vlan_mode") == Some(VLAN_MODE),
            qos: row.reference("qos"),
            number: interface.and_then(|row| row.integer("ofport")),
            ifindex: interface.and_then(|row| row.integer("ifindex")?.try_into().ok()),
            error: interface.and_then(|row| row.text("error")).map(str::to_owned),
            tunnel: interface.filter(|row| row.text("type") == Some(VXLAN)).map(|row| {
                row.map("options").into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
            }),
        })
    }

    pub(crate) fn named(db: &Replica, name: &str, controller: ControllerId) -> Option<Self> {
        Self::by_uuid(db, db.named("Port", name)?.0, controller)
    }

    /// The label of a port, if it is of a link of this controller.
    pub(crate) fn label_of(row: &Row, controller: ControllerId) -> Option<Label> {
        match text_owner(row.map("external_ids").get(LABEL).copied(), controller) {
            Owner::End(label) => Some(label),
            Owner::Foreign | Owner::Unlabelled | Owner::Bridge => None,
        }
    }

    pub(crate) fn label(&self) -> Option<Label> {
        match self.owner {
            Owner::End(label) => Some(label),
            Owner::Foreign | Owner::Unlabelled | Owner::Bridge => None,
        }
    }

    /// Whether the switch has attached it, which it says by giving it a number.
    pub(crate) fn is_attached(&self) -> bool {
        self.error.is_none() && self.number.is_some_and(|number| number > 0)
    }
}

/// All ports of links of this controller.
pub(crate) fn our_ports(db: &Replica, controller: ControllerId) -> Vec<Port> {
    let ports = db.rows("Port").filter_map(|(uuid, _)| Port::by_uuid(db, uuid, controller));
    ports.filter(|port| port.label().is_some()).collect()
}

/// A bridge as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) ours: bool,
    pub(crate) userspace: bool,
    /// It forwards the link-local frames that a cable does.
    pub(crate) passes_all: bool,
}

impl Bridge {
    fn read(db: &Replica, uuid: &Uuid, controller: ControllerId) -> Option<Self> {
        let row = db.row("Bridge", uuid)?;
        Some(Self {
            uuid: uuid.clone(),
            name: row.text("name")?.to_owned(),
            ours: row.map("external_ids").get(CONTROLLER).is_some_and(|whose| *whose == controller.to_string()),
            userspace: row.text("datapath_type") == Some(USERSPACE),
            passes_all: row.map("other_config").get(PASS_ALL).is_some_and(|value| *value == "true"),
        })
    }

    pub(crate) fn named(db: &Replica, name: &str, controller: ControllerId) -> Option<Self> {
        Self::read(db, db.named("Bridge", name)?.0, controller)
    }

    /// All bridges of this controller.
    pub(crate) fn ours(db: &Replica, controller: ControllerId) -> Vec<Self> {
        let bridges = db.rows("Bridge").filter_map(|(uuid, _)| Self::read(db, uuid, controller));
        bridges.filter(|bridge| bridge.ours).collect()
    }

    fn ports<'a>(&self, db: &'a Replica) -> impl Iterator<Item = (&'a Uuid, &'a Row)> + use<'a> {
        let row = db.row("Bridge", &self.uuid);
        row.into_iter().flat_map(|row| db.referred(row, "ports", "Port"))
    }

    /// Whether a port is on it.
    pub(crate) fn has(&self, db: &Replica, port: &Uuid) -> bool {
        db.row("Bridge", &self.uuid).is_some_and(|row| row.refers_to("ports", port))
    }

    /// The tags that its ports carry, each with how many carry it.
    pub(crate) fn tags(&self, db: &Replica) -> BTreeMap<u32, usize> {
        let mut tags = BTreeMap::new();
        for tag in self.ports(db).filter_map(|(_, port)| port.integer("tag")) {
            *tags.entry(tag.try_into().unwrap_or_default()).or_default() += 1;
        }
        tags
    }

    /// Whether nothing is attached to it but the interface that every bridge has.
    pub(crate) fn is_empty_without(&self, db: &Replica, leaving: &BTreeSet<Uuid>) -> bool {
        let mut staying = self.ports(db).filter(|(port, _)| !leaving.contains(*port));
        staying.all(|(_, row)| row.text("name") == Some(&self.name))
    }
}

/// Whether an interface is the own one of a bridge that is in user space.
pub(crate) fn is_bridge_in_userspace(db: &Replica, name: &str) -> bool {
    db.named("Bridge", name).is_some_and(|(_, row)| row.text("datapath_type") == Some(USERSPACE))
}

/// The row that has the switch leave to us what slows down the ports of a bridge. Without it, it takes away whatever it did
/// not put there itself.
pub(crate) fn hands_off(db: &Replica, bridge: &str, controller: ControllerId) -> Option<Uuid> {
    let is_it = |row: &Row| {
        let ids = row.map("external_ids");
        row.text("type") == Some(HANDS_OFF)
            && ids.get(BRIDGE) == Some(&bridge)
            && ids.get(CONTROLLER).is_some_and(|whose| *whose == controller.to_string())
    };
    db.rows("QoS").find(|(_, row)| is_it(row)).map(|(uuid, _)| uuid.clone())
}

/// The configuration that the switch has carried out.
pub(crate) fn carried_out(db: &Replica) -> Option<i64> {
    db.rows(DATABASE).next()?.1.integer("cur_cfg")
}

/// A transaction under construction.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    operations: Vec<Operation>,
    /// Ports to be added, by the name of their bridge.
    added: BTreeMap<String, Vec<Value>>,
}

/// A reference that may be missing.
fn one_or_none(value: Option<&Value>) -> Value {
    value.cloned().unwrap_or_else(|| set([]))
}

impl Draft {
    /// Has the switch keep its hands off what slows down ports of a bridge, if it does not yet; what ports refer to.
    pub(crate) fn keep_hands_off(&mut self, known: Option<&Uuid>, bridge: &IfName, controller: ControllerId) -> Value {
        if let Some(known) = known {
            return known.value();
        }
        let name = format!("q_{bridge}");
        let ids = map([(BRIDGE, bridge.to_string()), (CONTROLLER, controller.to_string())]);
        let row = json!({ "type": HANDS_OFF, "external_ids": ids });
        self.operations.push(Operation::insert("QoS", &name, row));
        named(&name)
    }

    /// Adds a port to a bridge, with a name and a label, on a segment that must be nobody's.
    pub(crate) fn add_port(
        &mut self,
        bridge: &IfName,
        port: (&IfName, &Label),
        interface: &IfName,
        tag: u32,
        qos: &Value,
    ) {
        self.add_port_as(bridge, port, tag, json!({ "name": interface.as_str() }), Some(qos));
    }

    /// The same for a port whose interface has these columns.
    pub(crate) fn add_port_as(
        &mut self,
        bridge: &IfName,
        (name, label): (&IfName, &Label),
        tag: u32,
        mut row: Value,
        qos: Option<&Value>,
    ) {
        let text = label.to_string();
        let interface = format!("i_{name}");
        row["external_ids"] = map([(LABEL, &text)]);
        self.operations.push(Operation::insert("Interface", &interface, row));
        let row = json!({
            "name": name.as_str(), "interfaces": named(&interface), "tag": tag, "vlan_mode": VLAN_MODE,
            "qos": one_or_none(qos), "external_ids": map([(LABEL, text.as_str()), (BRIDGE, bridge.as_str())]),
        });
        self.operations.push(Operation::insert("Port", name.as_str(), row));
        self.added.entry(bridge.to_string()).or_default().push(named(name.as_str()));
    }

    /// Changes what is said of a tunnel.
    pub(crate) fn redirect(&mut self, name: &str, options: &Options) {
        let which = [("name", "==", json!(name)), ("type", "==", json!(VXLAN))];
        self.operations.push(Operation::update("Interface", &which, json!({ "options": map(options) })));
    }

    /// Adds an operation.
    pub(crate) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Demands that no port of ours on the bridge carries a tag yet.
    pub(crate) fn demand_free(&mut self, bridge: &str, tag: u32) {
        let which = [("tag", "==", json!(tag)), ("external_ids", "includes", map([(BRIDGE, bridge)]))];
        self.operations.push(Operation::wait("Port", &which, &["name"], &[]));
    }

    /// Puts a port on a segment.
    pub(crate) fn retag(&mut self, port: &Uuid, tag: u32, qos: Option<&Value>) {
        let row = json!({ "tag": tag, "vlan_mode": VLAN_MODE, "qos": one_or_none(qos) });
        self.operations.push(Operation::update("Port", &[("_uuid", "==", port.value())], row));
    }

    /// Puts a port on a segment of its own, for the end of another link.
    pub(crate) fn park(&mut self, db: &Replica, port: &Uuid, tag: u32, heir: &Label) {
        let which = |uuid: &Uuid| [("_uuid", "==", uuid.value())];
        let label = map([(LABEL, heir.to_string())]);
        let relabel = [("external_ids", "delete", set([json!(LABEL)])), ("external_ids", "insert", label)];
        self.operations.push(Operation::update("Port", &which(port), json!({ "tag": tag })));
        self.operations.push(Operation::mutate("Port", &which(port), &relabel));
        let interfaces = db.row("Port", port).into_iter().flat_map(|row| db.referred(row, "interfaces", "Interface"));
        for (interface, _) in interfaces {
            self.operations.push(Operation::mutate("Interface", &which(interface), &relabel));
        }
    }

    /// Has a bridge of ours pass what a cable does, whatever somebody set it to.
    pub(crate) fn pass_all(&mut self, bridge: &Bridge) {
        let which = [("_uuid", "==", bridge.uuid.value())];
        let wrong = ("other_config", "delete", set([json!(PASS_ALL)]));
        let right = ("other_config", "insert", map([(PASS_ALL, "true")]));
        self.operations.push(Operation::mutate("Bridge", &which, &[wrong, right]));
    }

    /// Makes a bridge, along with the ports that were added to it in this draft.
    pub(crate) fn add_bridge(&mut self, name: &IfName, controller: ControllerId, userspace: bool) {
        let (port, interface) = (format!("p_{name}"), format!("i_{name}"));
        let local = json!({ "name": name.as_str(), "type": "internal" });
        self.operations.push(Operation::insert("Interface", &interface, local));
        let row = json!({ "name": name.as_str(), "interfaces": named(&interface) });
        self.operations.push(Operation::insert("Port", &port, row));
        let mut ports = self.added.remove(name.as_str()).unwrap_or_default();
        ports.push(named(&port));
        let row = json!({
            "name": name.as_str(), "ports": set(ports), "fail_mode": "standalone",
            "datapath_type": if userspace { USERSPACE } else { "system" },
            "other_config": map([(PASS_ALL, "true")]),
            "external_ids": map([(CONTROLLER, controller.to_string())]),
        });
        self.operations.push(Operation::insert("Bridge", name.as_str(), row));
        let bridges = ("bridges", "insert", set([named(name.as_str())]));
        self.operations.push(Operation::mutate(DATABASE, &[], &[bridges]));
    }

    /// Takes ports off a bridge; ports that are nowhere cease to exist.
    pub(crate) fn remove_ports(&mut self, bridge: &Uuid, ports: impl IntoIterator<Item = Uuid>) {
        let ports = ("ports", "delete", set(ports.into_iter().map(|port| port.value())));
        self.operations.push(Operation::mutate("Bridge", &[("_uuid", "==", bridge.value())], &[ports]));
    }

    /// Removes a bridge with its ports, provided that it has no others than `ports`.
    pub(crate) fn remove_bridge(&mut self, db: &Replica, bridge: &Bridge, controller: ControllerId) {
        let ports = json!({ "ports": set(bridge.ports(db).map(|(port, _)| port.value())) });
        let which = [("_uuid", "==", bridge.uuid.value())];
        self.operations.push(Operation::wait("Bridge", &which, &["ports"], &[ports]));
        let bridges = ("bridges", "delete", set([bridge.uuid.value()]));
        self.operations.push(Operation::mutate(DATABASE, &[], &[bridges]));
        let Some(qos) = hands_off(db, &bridge.name, controller) else { return };
        let mut users = db.rows("Port").filter(|(_, row)| row.refers_to("qos", &qos));
        // What somebody else uses stays. References have to go first, also those of rows that go.
        if users.all(|(uuid, _)| bridge.has(db, uuid)) {
            let none = json!({ "qos": set([]) });
            let ours = [("external_ids", "includes", map([(BRIDGE, &bridge.name)]))];
            self.operations.push(Operation::update("Port", &ours, none));
            self.operations.push(Operation::delete("QoS", &[("_uuid", "==", qos.value())]));
        }
    }

    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.added.is_empty()
    }

    /// The operations, ending with one that tells by which number the switch will say that it has carried them out.
    pub(crate) fn finish(mut self, comment: &str) -> Vec<Operation> {
        for (bridge, ports) in self.added {
            let which = [("name", "==", json!(bridge))];
            self.operations.push(Operation::mutate("Bridge", &which, &[("ports", "insert", set(ports))]));
        }
        self.operations.push(Operation::comment(comment));
        self.operations.push(Operation::mutate(DATABASE, &[], &[("next_cfg", "+=", json!(1))]));
        self.operations.push(Operation::select(DATABASE, &[], &["next_cfg"]));
        self.operations
    }
}
