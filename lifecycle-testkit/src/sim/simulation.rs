//! The simulation of one seed: a machine, a store, at most one controller that acts, and a queue of what is to happen.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::NetworkCapabilities;
use lifecycle_core::plugin::provider::ProviderCapabilities;
use lifecycle_core::{attach::PlaceKind, plugin::provider::InstanceRef};
use lifecycle_engine::decide::invariant::{History, Violation};
use lifecycle_engine::decide::{CommandId, HostState, Input, Kinds, News, Outcome, Settings, World};

use super::calls::{Call, CallId};
use super::chance::Chance;
use super::clock::Clock;
use super::faults::Faults;
use super::labs::{self, HOSTS, JAIL, LOOM, POD, WIRE};
use super::machine::{Exit, Foreign, Host, Interface, Machine, Switch, UPLINK};
use super::record::{Digest, Trace};
use super::user::User;

/// Something that is to happen.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A call takes effect.
    Land(CallId),
    /// A call takes effect once more.
    LandAgain(CallId),
    /// A call is answered.
    Answer(CallId, Box<Outcome>),
    /// A call's caller gives up.
    GiveUp(CallId),
    /// News reach the controller that is `life`.
    Hear { life: u64, host: HostName, plugin: PluginName, news: News },
    /// A process ends by itself.
    Exit(HostName, Exit),
    /// The user does something.
    User,
    /// A hand meddles.
    Meddle,
    /// A plugin cannot be reached, or hangs, for a while.
    Outage,
    /// A plugin may be well again.
    Recover,
    /// The wall clock jumps.
    Jump,
    /// The power fails.
    Reboot,
    /// A controller is started.
    Start,
    /// A controller that was thought dead wakes up.
    Wake(Box<Zombie>),
}

/// A controller that sleeps through the take-over of another.
#[derive(Debug, Clone)]
pub(super) struct Zombie {
    pub(super) world: World,
    pub(super) inputs: Vec<Input>,
}

/// Who decides at present.
#[derive(Debug)]
pub(super) enum Seat {
    /// Nobody.
    Empty,
    /// A controller.
    Taken(Box<Controller>),
    /// A controller whose commit failed: it waits for its calls to end, then reads everything anew.
    Rebuilding(Box<World>),
}

/// A controller that acts.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) world: World,
    pub(super) inputs: Vec<Input>,
    /// When it wants to be woken, on the simulation's clock.
    pub(super) wake: Option<u64>,
}

/// How a plugin fails for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    /// Until when.
    pub(super) until: u64,
    /// Calls hang instead of being refused.
    pub(super) hangs: bool,
}

/// One seed at work.
#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) clock: Clock,
    pub(super) machine: Machine,
    pub(super) store: MemoryStore,
    pub(super) seat: Seat,
    /// Which controller this is, counted from 1.
    pub(super) life: u64,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) next_call: u64,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(super) outages: BTreeMap<(HostName, PluginName), Outage>,
    /// Calls that wait for a plugin that hangs.
    pub(super) hung: Vec<CallId>,
    pub(super) faults: Faults,
    pub(super) settings: Settings,
    pub(super) user: User,
    /// The user is at the keyboard.
    pub(super) user_acts: bool,
    next_command: u64,
    /// Chance for the engine, for what goes wrong, and for the user.
    pub(super) engine: Chance,
    pub(super) mischief: Chance,
    pub(super) whim: Chance,
    pub(super) history: History,
    pub(super) foreign: Foreign,
    pub(super) steps: u64,
    /// The moment of the last step, and the steps without any input at that moment.
    pub(super) spins: (u64, u64),
    /// When something last changed or was asked to.
    pub(super) active_at: u64,
    pub(super) violations: Vec<Violation>,
    pub(super) digest: Option<Digest>,
    pub(super) trace: Trace,
    /// Since when links are recorded as up and carry no frames.
    pub(super) idle: BTreeMap<LinkId, u64>,
    /// Nobody looks whether invariants hold: for measuring.
    pub(super) unchecked: bool,
    /// Epoch and number of the batch that was stored last.
    pub(super) stored: (u64, u64),
    /// The mistake that every controller makes.
    #[cfg(feature = "planted-bugs")]
    pub(super) bug: Option<lifecycle_engine::decide::Bug>,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Clock::new();
        let mut nature = Chance::new(seed, "nature");
        let switched = Chance::new(seed, "switch").coin();
        let hosts = HOSTS.iter().zip(1..).map(|(name, number)| {
            let name = labs::host(name);
            let volatile = BTreeSet::from([labs::plugin(JAIL)]);
            let mut host = Host::new(name.clone(), clock.boot(), [WIRE, LOOM].map(labs::plugin), volatile);
            host.interfaces.insert((super::machine::HOST_NAMESPACE, 1), uplink());
            host.address = [10, 0, 0, number].into();
            host.switch = switched.then(Switch::default);
            (name, host)
        });
        let machine = Machine { hosts: hosts.collect() };
        let foreign = machine.foreign();
        let settings = draw_settings(&mut nature);
        Self {
            machine,
            clock,
            store: MemoryStore::new(ControllerId::from_u64(7)),
            seat: Seat::Empty,
            life: 0,
            calls: BTreeMap::new(),
            next_call: 1,
            queue: BTreeMap::new(),
            next_event: 0,
            outages: BTreeMap::new(),
            hung: Vec::new(),
            faults: Faults::draw(&mut nature),
            settings,
            user: User::default(),
            user_acts: true,
            next_command: 0,
            engine: Chance::new(seed, "engine"),
            mischief: Chance::new(seed, "mischief"),
            whim: Chance::new(seed, "whim"),
            history: History::new(),
            foreign,
            steps: 0,
            spins: (0, 0),
            active_at: 0,
            violations: Vec::new(),
            digest: None,
            trace: Trace::default(),
            idle: BTreeMap::new(),
            unchecked: false,
            stored: (0, 0),
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }

    /// The hosts as a controller is told of them when it starts.
    pub(super) fn host_states(&self) -> Vec<HostState> {
        let pair = (PlaceKind::Namespace, PlaceKind::Namespace);
        let others = [PlaceKind::HostNet, PlaceKind::Tunnel].map(|other| (PlaceKind::Namespace, other));
        let pairs = others.into_iter().chain([pair]).collect();
        let pod = ProviderCapabilities {
            exec: true,
            images: true,
            resources: true,
            media: false,
            restart_keeps_interfaces: true,
            concurrency: 3,
            ..Default::default()
        };
        let jail = ProviderCapabilities { exec: true, restart_keeps_interfaces: true, ..Default::default() };
        let switched = self.machine.hosts.values().any(|host| host.switch.is_some());
        let cable = NetworkCapabilities { pairs, ..Default::default() };
        let attaches = [PlaceKind::Namespace, PlaceKind::HostNet].map(|place| (place, "pair".to_owned())).into();
        let parks = [PlaceKind::Namespace].into();
        let loom = NetworkCapabilities { switched: true, attaches, parks, ..cable.clone() };
        let wire = if switched { loom.clone() } else { cable };
        let state = |name: &HostName| {
            let providers = [(labs::plugin(POD), pod.clone()), (labs::plugin(JAIL), jail.clone())];
            let backends = [(labs::plugin(WIRE), wire.clone()), (labs::plugin(LOOM), loom.clone())];
            HostState::new(name.clone(), providers, backends)
        };
        self.machine.hosts.keys().map(state).collect()
    }

    pub(super) fn kinds(&self) -> Kinds {
        Kinds::new(vec![labs::vendor()])
    }

    /// Lets something happen after so many milliseconds.
    pub(super) fn after(&mut self, millis: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.clock.millis + millis, self.next_event), event);
    }

    /// The world of the controller that acts.
    pub(super) fn world(&self) -> Option<&World> {
        match &self.seat {
            Seat::Taken(controller) => Some(&controller.world),
            Seat::Empty | Seat::Rebuilding(_) => None,
        }
    }

    /// Lets the next thing happen, and the controller take it in. False when nothing is to happen any more.
    pub(super) fn advance(&mut self) -> bool {
        let next = self.queue.keys().next().map(|(at, _)| *at);
        let wake = match &self.seat {
            Seat::Taken(controller) => controller.wake,
            Seat::Empty | Seat::Rebuilding(_) => None,
        };
        let Some(at) = [next, wake].into_iter().flatten().min() else { return false };
        self.clock.millis = self.clock.millis.max(at);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.clock.millis) {
            let event = entry.remove();
            self.happen(event);
        }
        self.tell_news();
        self.decide();
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Land(id) => self.land(id),
            Event::LandAgain(id) => self.land_again(id),
            Event::Answer(id, outcome) => self.end_call(id, *outcome),
            Event::GiveUp(id) => self.give_up(id),
            Event::Hear { life, host, plugin, news } => {
                if let Seat::Taken(controller) = &mut self.seat
                    && life == self.life
                {
                    controller.inputs.push(Input::News { host, plugin, news });
                }
            }
            Event::Exit(host, exit) => {
                let wall = self.clock.now().wall;
                if let Some(host) = self.machine.hosts.get_mut(&host) {
                    host.end_process(&exit, wall);
                }
            }
            Event::User => self.user_turn(),
            Event::Meddle => self.meddle(),
            Event::Outage => self.outage(),
            Event::Recover => self.recover(),
            Event::Jump => self.jump(),
            Event::Reboot => self.reboot(),
            Event::Start => self.start(),
            Event::Wake(zombie) => self.wake_zombie(*zombie),
        }
    }

    /// Sends on what the plugins have to tell, as far as anybody hears it.
    fn tell_news(&mut self) {
        let mut heard = Vec::new();
        let mut exits = Vec::new();
        for host in self.machine.hosts.values_mut() {
            heard.extend(host.news.drain(..).map(|(plugin, news)| (host.name.clone(), plugin, news)));
            exits.extend(host.exits.drain(..).map(|exit| (host.name.clone(), exit)));
        }
        for (host, exit) in exits {
            let after = u64::try_from(exit.after.as_millis()).unwrap_or(1);
            self.after(after, Event::Exit(host, exit));
        }
        for (host, plugin, news) in heard {
            if self.outage_of(&host, &plugin).is_some() || self.mischief.per_mille(self.faults.deaf) {
                continue;
            }
            let times = if self.mischief.per_mille(self.faults.echo) { 2 } else { 1 };
            for _ in 0..times {
                let news = if self.mischief.per_mille(10) { News::Resync } else { news.clone() };
                let event = Event::Hear { life: self.life, host: host.clone(), plugin: plugin.clone(), news };
                let wait = self.mischief.between(0, 20);
                self.after(wait, event);
            }
        }
    }

    pub(super) fn outage_of(&self, host: &HostName, plugin: &PluginName) -> Option<Outage> {
        self.outages.get(&(host.clone(), plugin.clone())).copied().filter(|it| it.until > self.clock.millis)
    }

    /// Hands a command to the controller; nothing when there is none.
    pub(super) fn command(&mut self, command: lifecycle_engine::decide::Command) {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.trace.say(self.clock.millis, || format!("user: {}", shorten(&format!("{command:?}"))));
        if let Seat::Taken(controller) = &mut self.seat {
            controller.inputs.push(Input::Command { id, user: "ann".to_owned(), command });
        }
    }

    fn user_turn(&mut self) {
        if !self.user_acts {
            return;
        }
        let mut user = std::mem::take(&mut self.user);
        let commands = match self.world() {
            Some(world) => {
                let mut whim = self.whim.clone();
                let commands = user.wants(world, &mut whim);
                self.whim = whim;
                commands
            }
            None => Vec::new(),
        };
        self.user = user;
        commands.into_iter().for_each(|command| self.command(command));
        let wait = self.whim.between(100, 9_000);
        self.after(wait, Event::User);
    }

    /// Sets the causes of mischief going.
    pub(super) fn unleash(&mut self) {
        self.after(0, Event::Start);
        self.after(10, Event::User);
        let causes = [
            (self.faults.hands, Event::Meddle),
            (self.faults.outages, Event::Outage),
            (self.faults.jumps, Event::Jump),
            (self.faults.reboots, Event::Reboot),
        ];
        for (every, event) in causes {
            self.again(every, event);
        }
    }

    /// Lets a cause of mischief act again after some time.
    pub(super) fn again(&mut self, every: Option<u64>, event: Event) {
        if let Some(every) = every {
            let wait = self.mischief.between(every / 4, every * 2);
            self.after(wait, event);
        }
    }

    pub(super) fn fail(&mut self, violation: Violation) {
        self.trace.say(self.clock.millis, || format!("VIOLATED {violation}"));
        self.violations.push(violation);
    }
}

fn uplink() -> Interface {
    Interface {
        name: labs::interface(UPLINK),
        mac: lifecycle_core::attach::Mac([2, 0, 0, 0, 0, 2]),
        up: true,
        tunnel: None,
        port: false,
        bridged: false,
        peer: None,
        mark: None,
        attrs: Default::default(),
        set_by: 0,
    }
}

fn draw_settings(nature: &mut Chance) -> Settings {
    let mut settings = Settings { provider: labs::plugin(POD), backend: labs::plugin(WIRE), ..Settings::default() };
    let seconds = std::time::Duration::from_secs;
    if nature.coin() {
        settings.limits.sync_pass = seconds(15);
        settings.limits.link_pass = seconds(15);
    }
    if nature.per_mille(300) {
        settings.limits.enforcement_rate = 2;
    }
    settings
}

/// A text that fits on a line.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 400;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What an instance is called in a trace.
pub(super) fn shown(instance: &InstanceRef) -> String {
    format!("{}#{}", instance.node, instance.incarnation)
}
