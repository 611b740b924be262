//! The configurations of running nodes, as text. Where they are kept is up to whoever asks.

use axum::extract::State;
use futures_util::{StreamExt, stream};
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::name::{LabName, NodeName};

use super::Api;
use super::extract::{Json, Path};
use super::labs::no_node;
use super::problem::Problem;
use super::wire::{List, SaveOutcome, Saved};

/// Nodes that are read at once.
const AT_ONCE: usize = 8;
/// Bytes of configurations in the answer about a lab; nodes beyond them are to be asked for one by one.
const LONGEST_ANSWER: usize = 32 << 20;

pub(super) async fn node(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
) -> Result<Json<Saved>, Problem> {
    match api.controller.save(&lab, &node).await {
        Ok(saved) => Ok(Json(Saved { file: saved.file, text: saved.text })),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(no_node(&api, &lab, &node).await),
        Err(error) => Err(error.into()),
    }
}

/// Every node of a lab, each with its configuration or with the reason why there is none.
pub(super) async fn lab(State(api): State<Api>, Path(lab): Path<LabName>) -> Result<Json<List<SaveOutcome>>, Problem> {
    let snapshot = api.controller.lab(&lab).await?.ok_or_else(|| Problem::not_found("lab", &lab))?;
    let names = snapshot.nodes.into_iter().map(|node| node.node_name);
    let read = stream::iter(names).map(|node| {
        let (controller, lab) = (api.controller.clone(), lab.clone());
        async move {
            let saved = controller.save(&lab, &node).await;
            (node, saved)
        }
    });
    let mut read = read.buffered(AT_ONCE);
    let (mut items, mut room) = (Vec::new(), LONGEST_ANSWER);
    while let Some((node, saved)) = read.next().await {
        let fits = saved.and_then(|saved| match room.checked_sub(saved.text.len()) {
            Some(left) => {
                room = left;
                Ok(Saved { file: saved.file, text: saved.text })
            }
            None => {
                let message = "the answer about the lab would be too long; ask for this node alone";
                Err(Error::new(ErrorKind::Exhausted, "read the configuration", message))
            }
        });
        items.push(match fits {
            Ok(saved) => SaveOutcome { node_name: node, saved: Some(saved), problem: None },
            Err(error) => SaveOutcome { node_name: node, saved: None, problem: Some(error.into()) },
        });
    }
    Ok(Json(List { items }))
}
