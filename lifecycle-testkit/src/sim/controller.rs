//! What a driver does around the engine's step: gather, decide, commit, and only then act; and how it dies.

use lifecycle_core::error::ErrorKind;
use lifecycle_core::model::{AuditAction, Batch};
use lifecycle_engine::decide::invariant::{Seen, Violation, check};
use lifecycle_engine::decide::{Effect, Input, Step, World, step};

use super::calls::tell;
use super::simulation::{Controller, Event, Seat, Simulation, Zombie, shorten};

/// Steps without input at one moment after which a controller is said to run hot.
const HOT: u64 = 20;

/// What became of a commit.
enum Committed {
    /// It is stored.
    Yes,
    /// It may be stored or not, and the world is to be read anew.
    Unknown,
}

/// When a controller dies in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Before the commit.
    Early,
    /// After so many effects of the step.
    After(usize),
}

impl Simulation {
    /// A controller starts and takes over.
    pub(super) fn start(&mut self) {
        if !matches!(self.seat, Seat::Empty) {
            return;
        }
        self.life += 1;
        let head = self.store.take_over_now();
        let world = self.load();
        self.trace.say(self.clock.millis, || format!("controller {} starts, epoch {}", self.life, head.epoch));
        self.sit(world);
    }

    /// The world as it is stored.
    fn load(&self) -> World {
        let mut world = World::new(self.store.load_now(), self.settings.clone(), self.kinds(), self.host_states());
        self.infect(&mut world);
        world
    }

    fn sit(&mut self, world: World) {
        self.idle.clear();
        self.stored = (world.head.epoch, world.head.batch);
        if !self.unchecked {
            let found = self.history.begins(&world);
            found.into_iter().for_each(|violation| self.fail(violation));
        }
        let wake = Some(self.clock.millis);
        self.seat = Seat::Taken(Box::new(Controller { world, inputs: Vec::new(), wake }));
    }

    /// The controller dies. What it asked for goes on.
    pub(super) fn die(&mut self) {
        self.trace.say(self.clock.millis, || "the controller dies".to_owned());
        self.orphan_calls();
        let seat = std::mem::replace(&mut self.seat, Seat::Empty);
        if let Seat::Taken(controller) = seat
            && self.mischief.per_mille(200)
        {
            // It was not dead at all: it sleeps, and wakes when another has long taken over.
            let Controller { world, inputs, .. } = *controller;
            let wait = self.mischief.between(1_000, 40_000);
            self.after(wait, Event::Wake(Box::new(Zombie { world, inputs })));
        }
        let wait = self.mischief.between(1, if self.mischief.clone().coin() { 500 } else { 20_000 });
        self.after(wait, Event::Start);
    }

    /// A controller that slept goes on as if nothing had happened, until its store tells it otherwise.
    pub(super) fn wake_zombie(&mut self, zombie: Zombie) {
        let Zombie { mut world, inputs } = zombie;
        if world.head.epoch == self.store.load_now().head.epoch {
            return;
        }
        let decided = step(&mut world, inputs, self.clock.now(), self.engine.rng());
        self.trace.say(self.clock.millis, || "a controller wakes that slept through a take-over".to_owned());
        if decided.batch.is_empty() {
            // Nothing to commit, so nothing told it off: then it may read, and no more.
            for effect in decided.effects.iter().filter(|effect| effect.action.is_mutating()) {
                let text = format!("{} by a controller that was replaced", effect.action.name());
                self.fail(Violation::new("I3", effect.id, text));
            }
            return;
        }
        match self.store.commit_now(&decided.batch) {
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            other => self.fail(Violation::new("I3", "commit", format!("a replaced controller got {other:?}"))),
        }
    }

    /// Lets the controller take in what happened, if anything did or it is time.
    pub(super) fn decide(&mut self) {
        if let Seat::Rebuilding(_) = self.seat
            && !self.is_calling()
        {
            self.rebuild();
        }
        loop {
            let now = self.clock.now();
            let Seat::Taken(controller) = &mut self.seat else { return };
            let due = controller.wake.is_some_and(|wake| wake <= self.clock.millis);
            if controller.inputs.is_empty() && !due {
                return;
            }
            let inputs = std::mem::take(&mut controller.inputs);
            let spins = inputs.is_empty() && self.spins.0 == self.clock.millis;
            self.spins = (self.clock.millis, if spins { self.spins.1 + 1 } else { 0 });
            let told = if self.unchecked { Vec::new() } else { inputs.clone() };
            let decided = step(&mut controller.world, inputs, now, self.engine.rng());
            controller.wake = decided.wake.map(|at| self.clock.at(at));
            self.steps += 1;
            self.take_step(&told, decided);
            if self.spins.1 > HOT {
                let text = format!("{HOT} steps at one moment without anything happening");
                self.fail(Violation::new("L3", "controller", text));
                return;
            }
        }
    }

    fn take_step(&mut self, inputs: &[Input], mut decided: Step) {
        if self.acts_before_commit() {
            let effects = std::mem::take(&mut decided.effects);
            effects.into_iter().for_each(|effect| self.act(effect));
        }
        let death = self.death(decided.effects.len());
        if death == Some(Death::Early) {
            return self.die();
        }
        if let Some(digest) = &mut self.digest {
            digest.take(&decided.batch, &decided.effects);
        }
        if let Committed::Unknown = self.commit(&decided.batch) {
            self.trace.say(self.clock.millis, || "a commit failed; the controller reads everything anew".to_owned());
            let seat = std::mem::replace(&mut self.seat, Seat::Empty);
            if let Seat::Taken(controller) = seat {
                self.seat = Seat::Rebuilding(Box::new(controller.world));
                self.leave_asides();
            }
            return;
        }
        self.note(&decided);
        if !self.unchecked {
            self.inspect(inputs, &decided);
        }
        let alive = match death {
            Some(Death::After(count)) => count,
            _ => decided.effects.len(),
        };
        decided.effects.into_iter().take(alive).for_each(|effect| self.act(effect));
        if death.is_some() {
            self.die();
        }
    }

    /// Starts an effect. I23: what it is about was stored before.
    fn act(&mut self, effect: Effect) {
        let decided = self.world().map(|world| (world.head.epoch, world.head.batch));
        if effect.action.is_mutating() && decided != Some(self.stored) {
            let text =
                format!("{} where {:?} is stored and {decided:?} was decided", effect.action.name(), self.stored);
            self.fail(Violation::new("I23", effect.id, text));
        }
        self.call(effect);
    }

    fn death(&mut self, effects: usize) -> Option<Death> {
        if !self.mischief.per_mille(self.faults.crash) {
            return None;
        }
        let place = self.mischief.below(effects as u64 + 2);
        Some(if place == 0 { Death::Early } else { Death::After(place as usize - 1) })
    }

    /// Commits as the driver does: again while the store is busy, and not at all when there is nothing to commit.
    fn commit(&mut self, batch: &Batch) -> Committed {
        if batch.is_empty() {
            return Committed::Yes;
        }
        let (fails, stored) = (self.mischief.per_mille(self.faults.commit), self.mischief.coin());
        if fails && !stored && self.mischief.coin() {
            return Committed::Unknown;
        }
        if let Err(error) = self.store.commit_now(batch) {
            self.fail(Violation::new("I19", "commit", format!("the store refused it: {error:?}")));
            return Committed::Unknown;
        }
        self.stored = (batch.epoch, batch.number);
        if fails && stored && self.mischief.coin() {
            self.learn_unseen(batch);
            return Committed::Unknown;
        }
        if fails && let Err(error) = self.store.commit_now(batch) {
            self.fail(Violation::new("I19", "commit", format!("sent again, the store refused it: {error:?}")));
        }
        Committed::Yes
    }

    /// A batch that was stored without its controller's knowing: the history has it, its effects never were.
    fn learn_unseen(&mut self, batch: &Batch) {
        let Seat::Taken(controller) = &self.seat else { return };
        let decided = Step { batch: batch.clone(), effects: Vec::new(), replies: Vec::new(), wake: None };
        let by_user = Input::Command {
            id: lifecycle_engine::decide::CommandId(0),
            user: "nobody".to_owned(),
            command: lifecycle_engine::decide::Command::Reconcile { lab: super::labs::lab("none") },
        };
        let census = self.machine.census();
        let seen = Seen {
            world: &controller.world,
            census: &census,
            // What was taken in is not told here, so nothing about who asked can be checked.
            inputs: std::slice::from_ref(&by_user),
            step: &decided,
            now: self.clock.now(),
        };
        if !self.unchecked {
            drop(self.history.observe(seen));
        }
    }

    /// All calls have ended after a failed commit: the world is read anew.
    fn rebuild(&mut self) {
        let Seat::Rebuilding(old) = std::mem::replace(&mut self.seat, Seat::Empty) else { return };
        let mut world = self.load();
        world.continue_numbering(&old);
        self.trace.say(self.clock.millis, || "the controller has read everything anew".to_owned());
        self.sit(world);
    }

    /// Notes what people may want to read, and whether anything is going on.
    fn note(&mut self, decided: &Step) {
        let mut asked = decided.effects.iter().filter(|effect| effect.action.is_mutating()).peekable();
        let collects_in_vain = asked.peek().is_some() && asked.clone().all(|effect| self.is_in_vain(effect));
        let tells = |action| action != AuditAction::Refused && !(collects_in_vain && action == AuditAction::Collected);
        let busy =
            asked.any(|effect| !self.is_in_vain(effect)) || decided.batch.audit.iter().any(|row| tells(row.action));
        if busy {
            self.active_at = self.clock.millis;
        }
        if !self.trace.on {
            return;
        }
        for row in &decided.batch.audit {
            let states = format!("{} -> {}", row.from.as_deref().unwrap_or("-"), row.to.as_deref().unwrap_or("-"));
            let cause = row.error.as_ref().or(row.reason.as_ref()).map(|text| shorten(text)).unwrap_or_default();
            let line = format!(
                "  {} {} {} {:?} {states} ({}) {cause}",
                row.subject, row.name, row.id, row.action, row.trigger
            );
            self.trace.say(self.clock.millis, || line);
        }
        for (id, reply) in &decided.replies {
            self.trace.say(self.clock.millis, || format!("  answer {}: {}", id.0, shorten(&format!("{reply:?}"))));
        }
    }

    fn inspect(&mut self, inputs: &[Input], decided: &Step) {
        let census = self.machine.census();
        let now = self.clock.now();
        let Seat::Taken(controller) = &self.seat else { return };
        let seen = Seen { world: &controller.world, census: &census, inputs, step: decided, now };
        let mut found = self.history.observe(seen);
        found.extend(check(&controller.world, &census, now));
        found.into_iter().for_each(|violation| self.fail(violation));
        self.i9_up_links_carry_frames();
        self.i12_segments_are_told_apart();
    }

    /// What the controller waits for, for people.
    pub(super) fn pending(&self) -> Vec<String> {
        self.calls.values().map(|call| tell(&call.effect.action)).collect()
    }
}
