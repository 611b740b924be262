//! Calls: effects on their way to the machine, and their answers on the way back.

use std::collections::BTreeMap;
use std::fmt;

use lifecycle_core::attach::{AttachKind, NsAccess, NsRef};
use lifecycle_core::error::{Error, ErrorKind};
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::network::{EndIdentity, LinkIdentity};
use lifecycle_core::plugin::provider::{CreatedNode, InstanceRef, ManagementAddresses};
use lifecycle_core::time::BootId;
use lifecycle_engine::decide::{Action, ConnectPlan, Done, Effect, EndPlan, Input, Outcome, Subject};

use super::faults::{Fate, Mishap};
use super::simulation::{Event, Seat, Simulation, shown};

/// Number of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A call under way.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The controller that made it.
    pub(super) life: u64,
    pub(super) effect: Effect,
    fate: Fate,
    /// It may still take effect.
    flying: bool,
    /// Its caller was answered, or gave up.
    ended: bool,
}

impl Call {
    fn is_over(&self) -> bool {
        self.ended && !self.flying
    }
}

impl Simulation {
    /// Starts an effect.
    pub(super) fn call(&mut self, effect: Effect) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let fate = Fate::draw(&self.faults, &effect.action, effect.timeout, &mut self.mischief);
        let timeout = u64::try_from(effect.timeout.as_millis()).unwrap_or(u64::MAX);
        let line = || {
            format!("{id} {} {} {} {}{}", effect.id, effect.host, effect.plugin, tell(&effect.action), misfortune(fate))
        };
        self.trace.say(self.clock.millis, line);
        let reach = match fate.mishap {
            Some(Mishap::Late(by)) => Some(timeout + by),
            Some(Mishap::Swallow) => None,
            _ => Some(fate.reach),
        };
        if let Some(reach) = reach {
            self.after(reach, Event::Land(id));
        }
        self.after(timeout, Event::GiveUp(id));
        let flying = reach.is_some();
        self.calls.insert(id, Call { life: self.life, effect, fate, flying, ended: false });
    }

    /// A call takes effect.
    pub(super) fn land(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (host, plugin, fate) = (call.effect.host.clone(), call.effect.plugin.clone(), call.fate);
        let sets = matches!(call.effect.action, Action::SetParams { .. });
        if let Some(outage) = self.outage_of(&host, &plugin) {
            if outage.hangs {
                // It waits in a queue until somebody reads it.
                return self.hung.push(id);
            }
            let refused = Error::new(ErrorKind::Unreachable, "call", "nobody answers");
            return self.answer(id, Err(refused));
        }
        match fate.mishap {
            Some(Mishap::Fail(kind)) => self.answer(id, Err(Error::new(kind, "call", "it went wrong"))),
            // What is set is not read back.
            Some(Mishap::Lie) if !sets => {
                let lie = self.calls.get(&id).map(|call| lie(&call.effect));
                self.answer(id, Ok(lie.unwrap_or(Done::Nothing)));
            }
            Some(Mishap::Break) => {
                drop(self.perform(id));
                self.answer(id, Err(Error::new(ErrorKind::Interrupted, "call", "the connection broke")));
            }
            Some(Mishap::Mute | Mishap::Late(_)) => {
                drop(self.perform(id));
                self.settle_call(id);
            }
            Some(Mishap::Twice) => {
                drop(self.perform(id));
                self.after(fate.reach % 40, Event::LandAgain(id));
            }
            Some(Mishap::Swallow | Mishap::Lie) | None => {
                let outcome = self.perform(id);
                self.answer(id, outcome);
            }
        }
    }

    /// Calls that hung reach plugins that are well again.
    pub(super) fn recover(&mut self) {
        for id in std::mem::take(&mut self.hung) {
            let Some(call) = self.calls.get(&id) else { continue };
            if self.outage_of(&call.effect.host, &call.effect.plugin).is_some() {
                self.hung.push(id);
            } else {
                self.after(1 + call.fate.reach % 50, Event::Land(id));
            }
        }
    }

    /// A call takes effect once more, and is answered by what came of that.
    pub(super) fn land_again(&mut self, id: CallId) {
        if self.calls.contains_key(&id) {
            let outcome = self.perform(id);
            self.answer(id, outcome);
        }
    }

    fn perform(&mut self, id: CallId) -> Outcome {
        let nobody = || Err(Error::new(ErrorKind::Unreachable, "call", "the host is not known"));
        let Some(call) = self.calls.get(&id) else { return nobody() };
        let wall = self.clock.now().wall;
        if call.effect.action.is_mutating() {
            self.active_at = self.clock.millis;
        }
        let Some(host) = self.machine.hosts.get_mut(&call.effect.host) else { return nobody() };
        let outcome = host.perform(id.0, &call.effect, wall);
        self.trace.say(self.clock.millis, || format!("{id} takes effect: {}", outcome_text(&outcome)));
        outcome
    }

    /// Nothing more comes of a call but its answer.
    fn answer(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.flying = false;
        let wait = call.fate.answer;
        self.after(wait, Event::Answer(id, Box::new(outcome)));
    }

    /// Nothing more comes of a call, not even an answer.
    fn settle_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.flying = false;
            if call.is_over() {
                self.calls.remove(&id);
            }
        }
    }

    /// The caller is told how a call ended.
    pub(super) fn end_call(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.ended) else {
            return self.settle_call(id);
        };
        call.ended = true;
        let (life, effect) = (call.life, call.effect.id);
        let looks = matches!((call.effect.subject, &call.effect.action), (Subject::Node(_), Action::ObserveNode(_)));
        // What is tried in vain on a host that is broken goes on for ever.
        let vain = self.outages.contains_key(&(call.effect.host.clone(), call.effect.plugin.clone()));
        if (looks || call.effect.action.is_mutating()) && !vain {
            self.active_at = self.clock.millis;
        }
        if life == self.life
            && let Seat::Taken(controller) = &mut self.seat
        {
            controller.inputs.push(Input::Outcome { effect, outcome: Box::new(outcome) });
        }
        self.forget_call(id);
    }

    /// The caller gives up on a call, which may take effect nevertheless.
    pub(super) fn give_up(&mut self, id: CallId) {
        if self.calls.get(&id).is_some_and(|call| !call.ended) {
            self.trace.say(self.clock.millis, || format!("{id} is given up"));
            self.end_call(id, Err(Error::new(ErrorKind::Timeout, "call", "no answer in time")));
        }
    }

    fn forget_call(&mut self, id: CallId) {
        if self.calls.get(&id).is_some_and(Call::is_over) {
            self.calls.remove(&id);
        }
    }

    /// The controller died: of what is under way, some never arrives, and nobody waits for the rest.
    pub(super) fn orphan_calls(&mut self) {
        let mine: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.life == self.life).map(|(id, _)| *id).collect();
        for id in mine {
            let dropped = self.mischief.coin();
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.ended = true;
            if dropped || !call.flying {
                self.calls.remove(&id);
            }
        }
    }

    /// The world is read anew, and only what is being done to nodes and links is waited for.
    pub(super) fn leave_asides(&mut self) {
        let life = self.life;
        let asides = self.calls.values_mut().filter(|call| call.life == life && !call.effect.action.is_at_subject());
        asides.for_each(|call| call.ended = true);
    }

    /// Whether anything that the present controller asked for has not ended.
    pub(super) fn is_calling(&self) -> bool {
        self.calls.values().any(|call| call.life == self.life && !call.ended)
    }

    /// Whether something is to be removed through a backend that hangs: it is tried for ever, and nothing comes of it.
    pub(super) fn is_in_vain(&self, effect: &Effect) -> bool {
        let hangs = self.outage_of(&effect.host, &effect.plugin).is_some();
        hangs && matches!(effect.action, Action::Disconnect(_) | Action::Park { .. } | Action::RemoveLink { .. })
    }

    /// Whether anything may still change the machine before long.
    pub(super) fn is_changing(&self) -> bool {
        self.calls.values().any(|call| {
            let effect = &call.effect;
            let hangs = self.outage_of(&effect.host, &effect.plugin).is_some();
            effect.action.is_mutating() && !self.is_in_vain(effect) && (call.flying && !hangs || !call.ended)
        })
    }
}

/// What somebody says who did nothing.
fn lie(Effect { action, plugin, .. }: &Effect) -> Done {
    match action {
        Action::CreateNode(request) => Done::Created(CreatedNode {
            instance: InstanceRef {
                node: request.node,
                incarnation: request.incarnation,
                identifier: request.long_name.clone(),
            },
            management: ManagementAddresses::default(),
        }),
        Action::RunCommands { .. } => Done::Commands { log: Vec::new(), ok: true },
        Action::Connect(plan) => Done::Connected(Box::new(invented(plugin, plan))),
        Action::Redirect { identity, to } => Done::Connected(Box::new(identity.redirected(to))),
        _ => Done::Nothing,
    }
}

/// The identity of a link that nobody built.
fn invented(plugin: &PluginName, plan: &ConnectPlan) -> LinkIdentity {
    const NOWHERE: u64 = 1 << 40;
    let boot = BootId(0);
    let end = |end: &EndPlan| {
        let point = match end {
            EndPlan::Place(point) => point.clone(),
            EndPlan::Port { instance, port, .. } => {
                let access = NsAccess::Path { path: "nowhere".into() };
                port.at(instance, AttachKind::Namespace(NsRef { access, cookie: NOWHERE, boot }))
            }
        };
        EndIdentity { mac: point.mac, point, namespace: NOWHERE, ifindex: 1, plugged: None }
    };
    LinkIdentity {
        backend: plugin.clone(),
        link: plan.link,
        incarnation: plan.incarnation,
        boot,
        a: end(&plan.ends[0]),
        b: Some(end(&plan.ends[1])),
        detail: BTreeMap::new(),
    }
}

fn misfortune(fate: Fate) -> String {
    fate.mishap.map(|mishap| format!("   <- {mishap:?}")).unwrap_or_default()
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Ok(done) => super::simulation::shorten(&format!("{done:?}")),
        Err(error) => format!("{error:?}"),
    }
}

/// An action on one line.
pub(super) fn tell(action: &Action) -> String {
    let name = action.name();
    match action {
        Action::CreateNode(request) => format!("{name} {} {}#{}", request.name, request.node, request.incarnation),
        Action::EnsureImage(spec) => format!("{name} {:?} for {}", spec.image, spec.name),
        Action::StartNode(it) | Action::DestroyNode(it) | Action::ObserveNode(it) => format!("{name} {}", shown(it)),
        Action::StopNode { instance, .. }
        | Action::RunCommands { instance, .. }
        | Action::ProbeReady { instance, .. } => format!("{name} {}", shown(instance)),
        Action::Connect(plan) => format!("{name} {}#{}", plan.link, plan.incarnation),
        Action::Disconnect(it)
        | Action::Release(it)
        | Action::Park { identity: it, .. }
        | Action::Verify(it)
        | Action::SetParams { identity: it, .. } => {
            format!("{name} {}#{}", it.link, it.incarnation)
        }
        Action::SetCarrier { identity, side, up } => {
            format!("{name} {}#{} {side} {up}", identity.link, identity.incarnation)
        }
        Action::Redirect { identity, to } => {
            format!("{name} {}#{} to {}", identity.link, identity.incarnation, to.remote)
        }
        Action::RemoveLink { observed, .. } => format!("{name} {}#{:?}", observed.link, observed.incarnation),
        Action::ListNodes | Action::ReadCapacity | Action::ObserveLinks(_) | Action::ReadUnderlay => name.to_owned(),
    }
}
