//! What goes wrong with the machine as a whole.

use lifecycle_core::name::{HostName, PluginName};
use lifecycle_engine::decide::invariant::Violation;

use super::labs::{self, HOSTS, JAIL, LOOM, POD, WIRE};
use super::machine::identifier;
use super::simulation::{Event, Outage, Seat, Simulation};

impl Simulation {
    /// A hand meddles with what is there.
    pub(super) fn meddle(&mut self) {
        let told = if self.mischief.per_mille(60) { self.occupy() } else { self.machine.meddle(&mut self.mischief) };
        if let Some(told) = told {
            self.active_at = self.clock.millis;
            self.foreign = self.machine.foreign();
            self.trace.say(self.clock.millis, || format!("hand: {told}"));
        }
        self.again(self.faults.hands, Event::Meddle);
    }

    /// Puts something foreign where a node is going to be.
    fn occupy(&mut self) -> Option<String> {
        let world = self.world()?;
        let nodes: Vec<_> = world.nodes.values().filter(|node| node.instance.is_none()).collect();
        let mut mischief = self.mischief.clone();
        let node = *mischief.pick(&nodes)?;
        let name = identifier(world.labs.get(&node.lab)?, &node.name);
        let provider = node.provider.clone();
        let host = mischief.pick(&HOSTS).map(|name| labs::host(name))?;
        self.mischief = mischief;
        let done = self.machine.occupy(&host, &provider, name.clone());
        done.then(|| format!("{name} on {host} is taken by something foreign"))
    }

    /// A plugin cannot be reached, or hangs.
    pub(super) fn outage(&mut self) {
        let host = self.mischief.pick(&HOSTS).map(|name| labs::host(name));
        let name = self.mischief.pick(&[POD, JAIL, WIRE, LOOM]).map(|name| labs::plugin(name));
        let (Some(host), Some(name)) = (host, name) else { return };
        let (lasts, hangs) = (self.mischief.between(500, 60_000), self.mischief.coin());
        self.break_plugin(host, name, lasts, hangs);
        self.again(self.faults.outages, Event::Outage);
    }

    pub(super) fn break_plugin(&mut self, host: HostName, plugin: PluginName, lasts: u64, hangs: bool) {
        let word = if hangs { "hangs" } else { "is down" };
        self.trace.say(self.clock.millis, || format!("{plugin} on {host} {word} for {lasts} ms"));
        let until = self.clock.millis + lasts;
        self.outages.insert((host, plugin), Outage { until, hangs });
        self.after(lasts + 1, Event::Recover);
    }

    /// The wall clock jumps by up to a day either way.
    pub(super) fn jump(&mut self) {
        let by = i64::try_from(self.mischief.below(2 * 86_400_000)).unwrap_or(0) - 86_400_000;
        self.trace.say(self.clock.millis, || format!("the wall clock jumps by {} s", by / 1000));
        self.clock.jump(by);
        self.again(self.faults.jumps, Event::Jump);
    }

    /// The power fails: everything but the store and what is on disks is gone.
    pub(super) fn reboot(&mut self) {
        self.trace.say(self.clock.millis, || "power failure".to_owned());
        self.calls.clear();
        self.outages.clear();
        self.hung.clear();
        self.seat = Seat::Empty;
        self.queue.retain(|_, event| {
            !matches!(
                event,
                Event::Land(_)
                    | Event::LandAgain(_)
                    | Event::Answer(..)
                    | Event::GiveUp(_)
                    | Event::Hear { .. }
                    | Event::Exit(..)
                    | Event::Start
                    | Event::Wake(_)
            )
        });
        self.clock.reboot();
        let boot = self.clock.boot();
        self.machine.hosts.values_mut().for_each(|host| host.reboot(boot));
        self.foreign = self.machine.foreign();
        self.active_at = self.clock.millis;
        let wait = self.mischief.between(1, 5_000);
        self.after(wait, Event::Start);
        self.again(self.faults.reboots, Event::Reboot);
    }

    /// I18: what is not ours is as it was.
    pub(super) fn i18_foreign_things_are_untouched(&mut self) {
        let now = self.machine.foreign();
        if now != self.foreign {
            let text = format!("{:?} became {now:?}", self.foreign);
            self.foreign = now;
            self.fail(Violation::new("I18", "foreign", text));
        }
    }
}
