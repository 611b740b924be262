//! `graph`: a lab as a drawing, in a language that others draw.

use std::collections::BTreeMap;

use lifecycle_core::name::NodeName;
use lifecycle_core::topology::{Endpoint, Topology};

use super::args::{Graph, GraphFormat};
use super::{Context, lab_file, target};
use crate::failure::{Exit, Result};

pub(super) async fn run(context: &Context, args: Graph) -> Result {
    let topology = match &args.topo {
        Some(file) => lab_file::read(context, file, &args.reading).await?,
        None => {
            let client = context.client().await?;
            let lab = target::lab(&client, args.lab.as_ref()).await?;
            client.topology(&lab).await?
        }
    };
    context.output.text(&match args.format {
        GraphFormat::Mermaid => mermaid(&topology),
        GraphFormat::Dot => dot(&topology),
    })?;
    Ok(Exit::Ok)
}

/// One end of a line: what it leads to, and the name of the interface there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    id: String,
    port: String,
}

/// A lab as boxes and lines.
#[derive(Debug, Default)]
struct Drawing {
    /// Identifier and text of each box.
    boxes: Vec<(String, String)>,
    lines: Vec<[End; 2]>,
}

impl Drawing {
    fn of(topology: &Topology) -> Self {
        let ids: BTreeMap<&NodeName, String> =
            topology.nodes.iter().enumerate().map(|(index, node)| (&node.name, format!("n{index}"))).collect();
        let mut drawing = Self::default();
        for node in &topology.nodes {
            let text =
                if node.kind == "linux" { node.name.to_string() } else { format!("{} ({})", node.name, node.kind) };
            drawing.boxes.push((ids[&node.name].clone(), text));
        }
        for link in &topology.links {
            let [a, b] = link.ends().map(|end| drawing.end(end, &ids));
            drawing.lines.push([a, b]);
        }
        drawing
    }

    fn end(&mut self, end: &Endpoint, ids: &BTreeMap<&NodeName, String>) -> End {
        let (text, port) = match end {
            Endpoint::Node(end) => match ids.get(&end.node) {
                Some(id) => return End { id: id.clone(), port: end.port.to_string() },
                None => (end.node.to_string(), end.port.to_string()),
            },
            Endpoint::Host { interface } => ("host".to_owned(), interface.to_string()),
            Endpoint::Management { interface } => ("mgmt-net".to_owned(), interface.to_string()),
            Endpoint::Macvlan { parent, .. } => (format!("macvlan of {parent}"), String::new()),
            Endpoint::Dummy => return self.own("nothing", String::new()),
            Endpoint::Vxlan { remote, vni, .. } => (format!("vxlan {vni} to {remote}"), String::new()),
        };
        // Ends at one place outside are one box.
        match self.boxes.iter().find(|(_, known)| *known == text) {
            Some((id, _)) => End { id: id.clone(), port },
            None => self.own(&text, port),
        }
    }

    fn own(&mut self, text: &str, port: String) -> End {
        let id = format!("x{}", self.boxes.len());
        self.boxes.push((id.clone(), text.to_owned()));
        End { id, port }
    }
}

fn mermaid(topology: &Topology) -> String {
    let drawing = Drawing::of(topology);
    let mut text = "graph LR\n".to_owned();
    for (id, name) in &drawing.boxes {
        text.push_str(&format!("    {id}[\"{}\"]\n", quoted(name)));
    }
    for [a, b] in &drawing.lines {
        let ports: Vec<&str> =
            [&a.port, &b.port].into_iter().map(String::as_str).filter(|port| !port.is_empty()).collect();
        text.push_str(&format!("    {} ---|\"{}\"| {}\n", a.id, quoted(&ports.join(" - ")), b.id));
    }
    text
}

/// A text as mermaid takes it between double quotes.
fn quoted(text: &str) -> String {
    text.replace('"', "#quot;")
}

fn dot(topology: &Topology) -> String {
    let drawing = Drawing::of(topology);
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!("graph \"{}\" {{\n    node [shape=box];\n", topology.name);
    for (id, name) in &drawing.boxes {
        text.push_str(&format!("    {id} [label=\"{}\"];\n", escaped(name)));
    }
    for [a, b] in &drawing.lines {
        let (tail, head) = (escaped(&a.port), escaped(&b.port));
        text.push_str(&format!("    {} -- {} [taillabel=\"{tail}\", headlabel=\"{head}\"];\n", a.id, b.id));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use lifecycle_core::name::{IfName, LabName};
    use lifecycle_core::topology::{LinkSpec, NodeSpec};

    use super::*;

    fn lab() -> Topology {
        let name = |text: &str| NodeName::new(text).unwrap();
        let interface = |text: &str| IfName::new(text).unwrap();
        let mut lab = Topology::new(LabName::new("two").unwrap(), "/");
        lab.nodes = vec![NodeSpec::new(name("r1"), "linux"), NodeSpec::new(name("br"), "bridge")];
        let end = |node: &str, port: &str| Endpoint::node(name(node), interface(port));
        lab.links = vec![
            LinkSpec::new(end("r1", "eth1"), end("br", "p1")),
            LinkSpec::new(end("r1", "eth2"), Endpoint::Host { interface: interface("v\"1") }),
            LinkSpec::new(end("r1", "eth3"), Endpoint::Dummy),
        ];
        lab
    }

    #[test]
    fn mermaid_text() {
        let expected = "\
graph LR
    n0[\"r1\"]
    n1[\"br (bridge)\"]
    x2[\"host\"]
    x3[\"nothing\"]
    n0 ---|\"eth1 - p1\"| n1
    n0 ---|\"eth2 - v#quot;1\"| x2
    n0 ---|\"eth3\"| x3
";
        assert_eq!(mermaid(&lab()), expected);
    }

    #[test]
    fn dot_text() {
        let text = dot(&lab());
        assert!(text.contains("n1 [label=\"br (bridge)\"];"), "{text}");
        assert!(text.contains("n0 -- x2 [taillabel=\"eth2\", headlabel=\"v\\\"1\"];"), "{text}");
    }
}
