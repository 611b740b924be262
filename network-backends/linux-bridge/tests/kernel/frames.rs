//! What a link lets through: what a cable does, but pause frames.

use std::time::Duration;

use lifecycle_core::attach::Mac;
use lifecycle_testkit::laws::Verdict;

use super::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn link_local_frames_pass_but_pause(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    let passes =
        |address, patience| fixture.nodes.frame_passes((&a, &a.ifname), (&b, &b.ifname), Some(address), patience);
    // Spanning tree, LACP, 802.1X, LLDP, and Cisco's own.
    let cisco = Mac([1, 0, 0x0c, 0xcc, 0xcc, 0xcc]);
    for address in [0, 2, 3, 0x0e].map(|last| Mac([1, 0x80, 0xc2, 0, 0, last])).into_iter().chain([cisco]) {
        assert!(passes(address, PATIENCE), "{address}");
    }
    // Of all group addresses the kernel never forwards this one, whatever it is told.
    assert!(!passes(Mac([1, 0x80, 0xc2, 0, 0, 1]), Duration::from_millis(200)), "pause frames pass; say so");
    fixture.backend.disconnect(&identity).await.unwrap();
    Ok(())
}

/// A bridge that learned would drop what seems to go back to where it came from.
pub(crate) async fn any_address_passes(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    fixture.connect(1, &a, &b).await;
    assert!(fixture.frame_passes(&a, &b, PATIENCE) && fixture.frame_passes(&b, &a, PATIENCE));
    for address in [a.mac, Mac([0x52, 0x54, 0, 0, 0, 1])] {
        assert!(fixture.nodes.frame_passes((&a, &a.ifname), (&b, &b.ifname), Some(address), PATIENCE), "{address}");
    }
    Ok(())
}
