//! The interface as it goes over the wire: paths, statuses, bodies and problems.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Served, chain, events, lab_name, node_name, send};
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_engine::Command;
use lifecycle_engine::drive::LabSnapshot;
use serde_json::{Value, json};

fn names(list: &Value, field: &str) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn labs_are_applied_shown_and_removed() {
    let served = Served::start().await;
    assert_eq!(served.send("GET", "/api/v1/labs", None).await.json(), json!({ "items": [] }));
    let topology = serde_json::to_value(chain("one", 3)).unwrap();

    let dry = served.send("PUT", "/api/v1/labs/one?dry_run=true", Some(&topology)).await;
    assert_eq!((dry.status, &dry.json()["lab_id"]), (200, &Value::Null));
    assert_eq!(dry.json()["plan"]["add_nodes"], json!(["n0", "n1", "n2"]));
    assert_eq!(served.send("GET", "/api/v1/labs", None).await.json(), json!({ "items": [] }), "nothing was done");

    let applied = served.send("PUT", "/api/v1/labs/one", Some(&topology)).await;
    assert_eq!(applied.status, 202);
    assert!(applied.json()["job_id"].is_string());
    served.up(chain("one", 3)).await;
    assert_eq!(served.send("PUT", "/api/v1/labs/one", Some(&topology)).await.status, 200, "there is nothing to do");

    let lab = served.send("GET", "/api/v1/labs/one", None).await.json();
    assert_eq!((&lab["lab"]["state"], &lab["lab"]["node_count"]), (&json!("running"), &json!(3)));
    assert_eq!(lab["links"][0]["ends"][0]["up"], true);
    assert!(lab["as_of_seq"].as_u64().unwrap() > 0);
    assert_eq!(names(&served.send("GET", "/api/v1/labs", None).await.json(), "name"), ["one"]);
    assert_eq!(
        names(&served.send("GET", "/api/v1/labs/one/nodes", None).await.json(), "node_name"),
        ["n0", "n1", "n2"]
    );
    assert_eq!(served.send("GET", "/api/v1/labs/one/topology", None).await.json()["nodes"][0]["name"], "n0");
    let node = served.send("GET", "/api/v1/labs/one/nodes/n1", None).await.json();
    assert_eq!(
        (&node["actual_state"], &node["display_state"], &node["is_ready"]),
        (&json!("running"), &json!("running"), &json!(true))
    );

    assert_eq!(served.send("DELETE", "/api/v1/labs/one", None).await.status, 202);
    served.controller.wait(&lab_name("one"), common::PATIENCE, |lab| lab.is_none()).await.unwrap();
    served.send("DELETE", "/api/v1/labs/one", None).await.problem(404, "not_found");
    assert_eq!(served.host.census(), (0, 0));
}

#[tokio::test]
async fn every_fault_is_a_problem() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let get = async |path: &str| served.send("GET", path, None).await;
    get("/nowhere").await.problem(404, "no_such_route");
    get("/api/v1/nowhere").await.problem(404, "no_such_route");
    served.send("POST", "/api/v1/labs", None).await.problem(405, "method_not_allowed");
    let problem = get("/api/v1/labs/two").await.problem(404, "not_found");
    assert_eq!(problem["known"], json!(["one"]));
    let problem = get("/api/v1/labs/one/nodes/n9").await.problem(404, "not_found");
    assert_eq!(problem["known"], json!(["n0", "n1"]));
    get("/api/v1/labs/one/nodes/a%20b").await.problem(400, "invalid_path");
    get("/api/v1/labs/..%2F..%2Fetc").await.problem(400, "invalid_path");
    get("/api/v1/audit?after=soon").await.problem(400, "invalid_query");
    get("/api/v1/audit?nonsense=1").await.problem(400, "invalid_query");
    get("/api/v1/jobs/000000000000").await.problem(404, "not_found");
    get("/api/v1/labs/one/nodes/n0/console").await.problem(400, "websocket_required");

    let put = async |path: &str, body: Value| served.send("PUT", path, Some(&body)).await;
    let desired = "/api/v1/labs/one/nodes/n0/desired-state";
    put(desired, json!({ "state": "asleep" })).await.problem(422, "invalid_body");
    put(desired, json!({ "state": "running", "force": true })).await.problem(422, "invalid_body");
    send(&served.socket(), "PUT", desired, &["Content-Length: 0"], None).await.problem(415, "invalid_body");
    let mut topology = serde_json::to_value(chain("one", 2)).unwrap();
    put("/api/v1/labs/other", topology.clone()).await.problem(422, "invalid");
    topology["nodes"][0]["kind"] = json!("toaster");
    topology["nodes"][1]["kind"] = json!("fridge");
    let problem = put("/api/v1/labs/one", topology.clone()).await.problem(422, "invalid");
    assert_eq!(problem["problems"].as_array().unwrap().len(), 2, "all at once: {problem}");
    topology["nodes"][0]["binds"] = json!([{ "source": "/etc/shadow", "target": "/x", "read_only": true }]);
    topology["directory"] = json!("/tmp");
    let problem = put("/api/v1/labs/one", topology).await.problem(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("outside the lab's directory"), "{problem}");
}

#[tokio::test]
async fn nodes_are_started_stopped_and_restarted() {
    let served = Served::start().await;
    served.up(chain("one", 3)).await;
    let desired = "/api/v1/labs/one/nodes/n0/desired-state";
    let stop = json!({ "state": "stopped" });
    let stopped = served.send("PUT", desired, Some(&stop)).await;
    assert_eq!((stopped.status, &stopped.json()["changed"]), (202, &json!(true)));
    let job = stopped.json()["job_id"].as_str().unwrap().to_owned();
    let n0 = node_name("n0");
    let reached = async |state: NodeState| {
        let there = |lab: Option<&LabSnapshot>| {
            lab.is_some_and(|lab| lab.nodes.iter().any(|node| node.node_name == n0 && node.actual_state == state))
        };
        served.controller.wait(&lab_name("one"), common::PATIENCE, there).await.unwrap();
    };
    reached(NodeState::Stopped).await;
    let again = served.send("PUT", desired, Some(&stop)).await;
    assert_eq!((again.status, &again.json()["changed"]), (200, &json!(false)));
    assert_eq!(served.send("GET", &format!("/api/v1/jobs/{job}"), None).await.json()["state"], "completed");
    assert!(names(&served.send("GET", "/api/v1/jobs", None).await.json(), "id").contains(&job));

    let all = "/api/v1/labs/one/nodes/desired-state";
    let bulk = served.send("PUT", all, Some(&json!({ "state": "running" }))).await;
    assert_eq!(bulk.status, 202);
    let bulk = bulk.json();
    assert_eq!(
        (&bulk["affected"], &bulk["already_in_state"], &bulk["skipped_transitional"]),
        (&json!(1), &json!(2), &json!(0))
    );
    assert_eq!(bulk["nodes"]["affected"], json!(["n0"]));
    reached(NodeState::Running).await;

    let restarted = served.send("POST", "/api/v1/labs/one/nodes/n0/restart", None).await;
    assert_eq!(restarted.status, 202);
    served.send("POST", "/api/v1/jobs/000000000000/cancel", None).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_node_on_its_way_refuses_with_advice() {
    let served = Served::start().await;
    served.provider.close_gate(true);
    served.controller.apply("ann", chain("one", 1)).await.unwrap();
    let starting = |lab: Option<&LabSnapshot>| lab.is_some_and(|lab| lab.nodes[0].actual_state == NodeState::Starting);
    served.controller.wait(&lab_name("one"), common::PATIENCE, starting).await.unwrap();
    let desired = "/api/v1/labs/one/nodes/n0/desired-state";
    let refused = served.send("PUT", desired, Some(&json!({ "state": "stopped" }))).await;
    let problem = refused.problem(409, "node_transitional");
    assert_eq!(problem["state"], "starting");
    assert!(problem["since"].is_string() && problem["advice"].as_str().unwrap().contains("abort"), "{problem}");
    served
        .send("POST", "/api/v1/labs/one/nodes/n0/exec", Some(&json!({ "argv": ["true"] })))
        .await
        .problem(409, "conflict");
    let bulk = served.send("PUT", "/api/v1/labs/one/nodes/desired-state", Some(&json!({ "state": "stopped" }))).await;
    assert_eq!((bulk.status, &bulk.json()["skipped_transitional"]), (200, &json!(1)));
    let aborted = served.send("PUT", desired, Some(&json!({ "state": "stopped", "abort": true }))).await;
    assert_eq!(aborted.status, 202);
    served.provider.close_gate(false);
}

#[tokio::test]
async fn commands_run_in_nodes() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let exec =
        async |argv: Value| served.send("POST", "/api/v1/labs/one/nodes/n0/exec", Some(&json!({ "argv": argv }))).await;
    let echo = exec(json!(["echo", "hello"])).await;
    assert_eq!(
        (echo.status, &echo.json()["stdout"], &echo.json()["exit"]["code"]),
        (200, &json!("hello\n"), &json!(0))
    );
    assert_eq!(exec(json!(["false"])).await.json()["exit"]["code"], 1);
    exec(json!(["nonsense"])).await.problem(422, "no_such_program");
    exec(json!([])).await.problem(422, "invalid");
}

#[tokio::test]
async fn what_nodes_print_is_a_stream_of_lines() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let answer = served.send("GET", "/api/v1/labs/one/nodes/n0/logs?tail=2", None).await;
    assert!(answer.head.contains("content-type: application/jsonl"), "{answer:?}");
    let lines: Vec<Value> = answer.body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line.is_object()).collect();
    assert_eq!((&lines[0]["line"], &lines[0]["stderr"]), (&json!("two\n"), &json!(true)));
    assert_eq!(lines[1]["line"], json!({ "base64": "/wo=" }), "what is no text is not lost");
}

#[tokio::test]
async fn links_change_in_place_and_are_checked() {
    let served = Served::start().await;
    served.up(chain("one", 3)).await;
    let links = served.send("GET", "/api/v1/labs/one/links", None).await.json();
    let id = links["items"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/labs/one/links/{id}");
    let changed = served.send("PATCH", &path, Some(&json!({ "admin": "down" }))).await;
    assert_eq!((changed.status, &changed.json()["changed"]), (202, &json!(true)));
    let down = |lab: Option<&LabSnapshot>| {
        lab.is_some_and(|lab| lab.links.iter().any(|link| link.actual_state == LinkState::Down))
    };
    served.controller.wait(&lab_name("one"), common::PATIENCE, down).await.unwrap();
    served.send("PATCH", &path, Some(&json!({ "speed": 1 }))).await.problem(422, "invalid");
    served.send("PATCH", "/api/v1/labs/one/links/000000000000", Some(&json!({}))).await.problem(404, "not_found");
    let found = served.send("POST", "/api/v1/labs/one/links/reconcile", None).await.json();
    assert_eq!(found, json!({ "checked": 2, "valid": 2, "repaired": 0, "errors": 0 }));
    let up = serde_json::json!({ "admin": "up" });
    served.send("PATCH", &path, Some(&up)).await;
    let point = served
        .controller
        .read(|world| world.links.values().find_map(|link| Some(link.identity.as_ref()?.a.point.clone())));
    let point = point.await.unwrap().unwrap();
    assert!(served.host.delete_interface(&point));
    let found = served.send("POST", "/api/v1/labs/one/links/reconcile", None).await.json();
    assert_eq!((&found["checked"], &found["errors"]), (&json!(2), &json!(0)), "whoever repaired it: {found}");
    served.send("POST", "/api/v1/labs/two/links/reconcile", None).await.problem(404, "not_found");
}

#[tokio::test]
async fn interfaces_are_mapped_as_their_links_are() {
    let served = Served::start().await;
    served.up(chain("one", 3)).await;
    let mappings = async |path: &str| served.send("GET", &format!("/api/v1/labs/one{path}"), None).await.json();
    let all = mappings("/interface-mappings").await;
    let of = |item: &Value| format!("{}:{}", item["node_name"].as_str().unwrap(), item["interface"].as_str().unwrap());
    let places: Vec<String> = all["items"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(places, ["n0:eth1", "n1:eth1", "n1:eth2", "n2:eth2"]);
    let first = &all["items"][0];
    let links = mappings("/links").await;
    let link = links["items"].as_array().unwrap().iter().find(|link| link["ends"][0]["node"] == "n0").unwrap();
    assert_eq!(first["link_id"], link["id"]);
    assert_eq!((&first["vendor_interface"], &first["vendor_kind"]), (&json!("eth1"), &json!("linux")));
    assert_eq!(
        (&first["backend"], &first["bridge"]),
        (&json!("memory"), &Value::Null),
        "there is no switch in between"
    );
    assert_eq!(mappings("/interface-mappings?port=lc0").await["items"], json!([]));
    assert_eq!(mappings("/nodes/n1/interfaces").await["items"], json!([all["items"][1], all["items"][2]]));

    let synced = served.send("POST", "/api/v1/labs/one/interface-mappings/sync", None).await.json();
    assert_eq!(synced["links"], json!({ "checked": 2, "valid": 2, "repaired": 0, "errors": 0 }));
    assert_eq!((&synced["count"], names(&synced, "node_name").len()), (&json!(4), 4));

    // What is gone is mapped no more.
    let settled = async |links: usize| {
        let settled = |lab: Option<&LabSnapshot>| lab.is_some_and(|it| it.links.len() == links) && common::is_up(lab);
        served.controller.wait(&lab_name("one"), common::PATIENCE, settled).await.unwrap();
    };
    let mut topology = chain("one", 3);
    topology.links.remove(1);
    served.controller.apply("ann", topology).await.unwrap();
    settled(1).await;
    assert_eq!(names(&mappings("/interface-mappings").await, "node_name"), ["n0", "n1"]);

    // An interface that goes from one link to another is mapped once all the while.
    let mut topology = chain("one", 3);
    let [first, second] = &mut topology.links[..] else { panic!("two links") };
    std::mem::swap(&mut first.b, &mut second.b);
    served.controller.apply("ann", topology).await.unwrap();
    assert_eq!(names(&mappings("/interface-mappings").await, "node_name"), ["n0", "n1", "n1", "n2"]);

    served.controller.apply("ann", chain("one", 0)).await.unwrap();
    let emptied = |lab: Option<&LabSnapshot>| lab.is_some_and(|lab| lab.nodes.is_empty() && lab.links.is_empty());
    served.controller.wait(&lab_name("one"), common::PATIENCE, emptied).await.unwrap();
    assert_eq!(mappings("/interface-mappings").await["items"], json!([]));
    for (method, path) in [
        ("GET", "/api/v1/labs/two/interface-mappings"),
        ("GET", "/api/v1/labs/two/nodes/n0/interfaces"),
        ("GET", "/api/v1/labs/one/nodes/n2/interfaces"),
        ("POST", "/api/v1/labs/two/interface-mappings/sync"),
    ] {
        served.send(method, path, None).await.problem(404, "not_found");
    }
    served.send("GET", "/api/v1/labs/one/interface-mappings?bridge=x", None).await.problem(400, "invalid_query");
}

#[tokio::test]
async fn the_feed_is_resumed_without_a_gap() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let head = served.send("GET", "/api/v1/labs/one", None).await.json()["as_of_seq"].as_u64().unwrap();
    let all = usize::try_from(head).unwrap() + 1;
    let first = events(&served.socket(), "/api/v1/events?since=0", &[], all).await;
    let (id, kind, hello) = &first[0];
    assert_eq!((id, kind.as_str(), &hello["seq"]), (&None, "hello", &json!(head)));
    let epoch = hello["epoch"].as_u64().unwrap();
    for (number, (id, kind, event)) in (1u64..).zip(&first[1..]) {
        assert_eq!((id.as_deref(), &event["seq"]), (Some(format!("{epoch}-{number}").as_str()), &json!(number)));
        assert_eq!(event["type"], json!(kind));
    }
    // Somebody who comes back goes on where they were, whatever the epoch was.
    let resume = format!("Last-Event-ID: {}-{}", epoch - 1, head - 2);
    let rest = events(&served.socket(), "/api/v1/events", &[&resume], 3).await;
    assert_eq!((&rest[1].2["seq"], &rest[2].2["seq"]), (&json!(head - 1), &json!(head)));
    // Somebody who saw more than there is followed something else.
    let ahead = format!("Last-Event-ID: {epoch}-{}", head + 100);
    let reset = events(&served.socket(), "/api/v1/events", &[&ahead], 2).await;
    assert_eq!((reset[1].1.as_str(), &reset[1].2), ("reset", &json!({ "lost_up_to": head })));
}

#[tokio::test]
async fn the_trail_outlives_what_it_is_about() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let rows = served.send("GET", "/api/v1/audit?subject=node&limit=2", None).await.json();
    assert_eq!(rows["items"].as_array().unwrap().len(), 2);
    let after = rows["items"][1]["seq"].as_u64().unwrap();
    let rest = served.send("GET", &format!("/api/v1/audit?after={after}"), None).await.json();
    assert_eq!(rest["items"][0]["seq"], json!(after + 1));
    let history = "/api/v1/labs/one/nodes/n0/history";
    let before = served.send("GET", history, None).await.json();
    assert_eq!((&before["items"][0]["to"], &before["items"][0]["name"]), (&json!("running"), &json!("n0")));
    served.controller.command("ann", Command::Destroy { lab: lab_name("one") }).await.unwrap();
    served.controller.wait(&lab_name("one"), common::PATIENCE, |lab| lab.is_none()).await.unwrap();
    let gone = served.send("GET", history, None).await.json();
    assert_eq!(gone["items"][0]["action"], "deleted", "newest first: {gone}");
    served.send("GET", "/api/v1/labs/one/nodes/n7/history", None).await.problem(404, "not_found");
}

#[tokio::test]
async fn the_socket_is_for_its_user_and_the_server_says_how_it_is() {
    let mut served = Served::start().await;
    let mode = std::fs::metadata(served.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(served.send("GET", "/livez", None).await.body, "ok\n");
    assert_eq!(served.send("GET", "/readyz", None).await.status, 200);
    let about = served.send("GET", "/api/v1", None).await.json();
    assert_eq!((&about["pid"], &about["epoch"]), (&json!(std::process::id()), &json!(1)));
    let checked = served.send("GET", "/api/v1/selfcheck", None).await.json();
    assert_eq!((&checked["violations"], checked["checked"].as_array().unwrap().is_empty()), (&json!([]), false));
    served.controller.shutdown().await;
    served.send("GET", "/readyz", None).await.problem(503, "closing");
    served.close().await;
    assert!(!served.socket().exists());
}

#[tokio::test]
async fn what_users_do_is_on_record_with_their_name() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    served.send("PUT", "/api/v1/labs/one/nodes/n0/desired-state", Some(&json!({ "state": "stopped" }))).await;
    let rows = served.send("GET", "/api/v1/labs/one/nodes/n0/history", None).await.json();
    let wanted = rows["items"].as_array().unwrap().iter().find(|row| row["action"] == "desired_changed").unwrap();
    let me = lifecycle_controller::api::Peer::of_uid(rustix::process::geteuid().as_raw());
    assert_eq!(wanted["decided_by"], json!(me.user));
}

#[tokio::test]
async fn vendors_and_configurations_are_told() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let kinds = served.send("GET", "/api/v1/vendors", None).await.json();
    assert_eq!(names(&kinds, "kind"), ["bridge", "linux", "ovs-bridge", "shell"]);
    assert_eq!(kinds["items"][3]["readiness"]["probe"], "when-running");

    let mut topology = chain("two", 2);
    topology.nodes[0].kind = "shell".to_owned();
    served.up(topology).await;
    let saved = served.send("POST", "/api/v1/labs/two/nodes/n0/save", None).await;
    assert_eq!((saved.status, saved.json()), (200, json!({"file": "n.cfg", "text": "hostname n\n"})));
    served.send("POST", "/api/v1/labs/two/nodes/n1/save", None).await.problem(501, "unsupported");
    served.send("POST", "/api/v1/labs/two/nodes/n9/save", None).await.problem(404, "not_found");
    served.send("POST", "/api/v1/labs/nine/save", None).await.problem(404, "not_found");
    let all = served.send("POST", "/api/v1/labs/two/save", None).await.json();
    assert_eq!(names(&all, "node_name"), ["n0", "n1"]);
    assert_eq!((&all["items"][0]["saved"]["file"], &all["items"][0]["problem"]), (&json!("n.cfg"), &Value::Null));
    assert_eq!(all["items"][1]["problem"]["code"], "unsupported");
}
