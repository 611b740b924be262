//! `destroy`: labs go, with everything in them.

use lifecycle_core::name::LabName;

use super::args::{Destroy, Reading};
use super::session::Session;
use super::settle::until_gone;
use super::{Context, lab_file};
use crate::client::Client;
use crate::failure::{Exit, Failure, Result};

pub(super) async fn run(context: &Context, args: Destroy) -> Result {
    let named = match &args.topo {
        Some(file) => vec![lab_file::read(context, file, &Reading::default()).await?.name],
        None => args.labs.clone(),
    };
    let Some(session) = Session::attach_existing(context, "destroy").await? else {
        return match named.first() {
            Some(lab) => Err(Failure::new(Exit::NotFound, format!("no lab is called `{lab}`; there is none"))),
            None => Ok(Exit::Ok),
        };
    };
    let ended = destroy(context, &session, named, &args).await;
    session.end().await;
    ended
}

async fn destroy(context: &Context, session: &Session, named: Vec<LabName>, args: &Destroy) -> Result {
    let client = &session.client;
    let labs = match args.all {
        true => client.labs().await?.into_iter().map(|lab| lab.name).collect(),
        false => named,
    };
    // Of several labs, one that fails does not keep the others.
    let mut exits = Vec::new();
    for lab in &labs {
        exits.push(ask(context, client, lab).await);
    }
    // A controller of this process has to stay until it is done.
    if args.patience.no_wait && session.embedded.is_none() {
        return Ok(Exit::all(exits));
    }
    for (lab, exit) in labs.iter().zip(&mut exits) {
        if *exit == Exit::Ok {
            *exit = gone(context, client, lab, args).await;
        }
    }
    Ok(Exit::all(exits))
}

async fn ask(context: &Context, client: &Client, lab: &LabName) -> Exit {
    match client.destroy(lab).await {
        Ok(_) => Exit::Ok,
        Err(failure) => {
            context.screen.say(&failure);
            failure.exit
        }
    }
}

async fn gone(context: &Context, client: &Client, lab: &LabName, args: &Destroy) -> Exit {
    match until_gone(client, lab, args.patience.timeout, &context.screen).await {
        Ok(()) => {
            context.screen.say(format_args!("lab {lab} is gone"));
            Exit::Ok
        }
        Err(failure) => {
            context.screen.say(&failure);
            failure.exit
        }
    }
}
