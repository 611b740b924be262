//! The fields of a lab file: containerlab's, and our own optional ones on top.

use lifecycle_core::topology::Stage;
use serde_json::Value as Json;

use crate::decode::{At, Checked, FromTree, Map, record};
use crate::diagnostics::Problems;
use crate::yaml::{Node, Value};

record! {
    /// A whole file.
    File {
        name: String = "name",
        prefix: String = "prefix",
        mgmt: Mgmt = "mgmt",
        settings: Settings = "settings",
        topology: TopologyDef = "topology",
        debug: bool = "debug",
    }

    /// The management network. The fields with an underscore are old spellings.
    Mgmt {
        network: String = "network",
        bridge: String = "bridge",
        ipv4_subnet: String = "ipv4-subnet",
        ipv4_subnet_old: String = "ipv4_subnet",
        ipv4_gw: String = "ipv4-gw",
        ipv4_range: String = "ipv4-range",
        ipv6_subnet: String = "ipv6-subnet",
        ipv6_subnet_old: String = "ipv6_subnet",
        ipv6_gw: String = "ipv6-gw",
        ipv6_range: String = "ipv6-range",
        mtu: u32 = "mtu",
        external_access: bool = "external-access",
        skip_when_unused: bool = "skip-when-unused",
        driver_opts: Map<String> = "driver-opts",
    }

    /// Settings of the lab; all but the first are ours.
    Settings {
        certificate_authority: Checked<CertificateAuthority> = "certificate-authority",
        provider: String = "provider",
        backend: String = "backend",
        ovs_mode: String = "ovs_mode",
        host: String = "host",
    }

    CertificateAuthority {
        cert: String = "cert",
        key: String = "key",
        key_size: u32 = "key-size",
        validity_duration: String = "validity-duration",
    }

    TopologyDef {
        defaults: NodeDef = "defaults",
        kinds: Map<NodeDef> = "kinds",
        groups: Map<NodeDef> = "groups",
        nodes: Map<NodeDef> = "nodes",
        links: Vec<At<LinkDef>> = "links",
    }

    /// A node, or what nodes inherit from their group, their kind or the defaults.
    NodeDef {
        aliases: Vec<At<String>> = "aliases",
        auto_remove: bool = "auto-remove",
        binds: Vec<At<String>> = "binds",
        cap_add: Vec<At<String>> = "cap-add",
        certificate: Checked<Certificate> = "certificate",
        cgroup_parent: String = "cgroup-parent",
        cgroupns_mode: String = "cgroupns-mode",
        cmd: String = "cmd",
        components: Vec<At<Json>> = "components",
        config: Config = "config",
        cpu: f64 = "cpu",
        cpu_set: String = "cpu-set",
        credentials: Checked<Credentials> = "credentials",
        devices: Vec<At<String>> = "devices",
        dns: DnsDef = "dns",
        enforce_startup_config: bool = "enforce-startup-config",
        entrypoint: String = "entrypoint",
        env: Map<String> = "env",
        env_files: Vec<At<String>> = "env-files",
        exec: Vec<At<String>> = "exec",
        extras: Map<Json> = "extras",
        group: String = "group",
        healthcheck: HealthcheckDef = "healthcheck",
        hostname: String = "hostname",
        image: String = "image",
        image_pull_policy: String = "image-pull-policy",
        kind: String = "kind",
        labels: Map<String> = "labels",
        license: String = "license",
        link_apply_mode: String = "link-apply-mode",
        memory: String = "memory",
        mgmt_ipv4: String = "mgmt-ipv4",
        mgmt_ipv6: String = "mgmt-ipv6",
        network_mode: String = "network-mode",
        pid_mode: String = "pid-mode",
        ports: Vec<At<String>> = "ports",
        position: String = "position",
        privileged: bool = "privileged",
        restart_policy: String = "restart-policy",
        runtime: String = "runtime",
        security_opts: Vec<At<String>> = "security-opts",
        shm_size: String = "shm-size",
        stages: Stages = "stages",
        startup_config: String = "startup-config",
        startup_delay: u32 = "startup-delay",
        suppress_startup_config: bool = "suppress-startup-config",
        sysctls: Map<String> = "sysctls",
        tmpfs: Map<String> = "tmpfs",
        r#type: String = "type",
        user: String = "user",
        volumes: Vec<At<String>> = "volumes",
        // Ours.
        desired: String = "desired",
        host: String = "host",
        provider: String = "provider",
    }

    Certificate {
        issue: bool = "issue",
        key_size: u32 = "key-size",
        validity_duration: String = "validity-duration",
        sans: Vec<At<String>> = "sans",
    }

    Credentials {
        username: String = "username",
        password: String = "password",
        identity_file: String = "identity-file",
    }

    Config {
        vars: Map<Json> = "vars",
    }

    DnsDef {
        servers: Vec<At<String>> = "servers",
        search: Vec<At<String>> = "search",
        options: Vec<At<String>> = "options",
    }

    HealthcheckDef {
        test: Vec<At<String>> = "test",
        interval: u32 = "interval",
        timeout: u32 = "timeout",
        retries: u32 = "retries",
        start_period: u32 = "start-period",
    }

    Stages {
        create: StageDef = "create",
        create_links: StageDef = "create-links",
        configure: StageDef = "configure",
        healthy: StageDef = "healthy",
        exit: StageDef = "exit",
    }

    StageDef {
        wait_for: Vec<At<WaitForDef>> = "wait-for",
        exec: StageExecs = "exec",
    }

    WaitForDef {
        node: String = "node",
        stage: String = "stage",
    }

    StageExec {
        command: String = "command",
        target: String = "target",
        phase: String = "phase",
    }

    /// The older way to write the commands of a stage.
    StageExecsByPhase {
        on_enter: Vec<At<String>> = "on-enter",
        on_exit: Vec<At<String>> = "on-exit",
    }

    /// A link of any type; which fields have a meaning depends on the type.
    LinkDef {
        r#type: String = "type",
        endpoints: Vec<At<EndpointField>> = "endpoints",
        endpoint: EndpointDef = "endpoint",
        host_interface: String = "host-interface",
        mode: String = "mode",
        mtu: u32 = "mtu",
        labels: Map<String> = "labels",
        vars: Map<Json> = "vars",
        ipv4: Vec<At<String>> = "ipv4",
        ipv6: Vec<At<String>> = "ipv6",
        remote: String = "remote",
        vni: u32 = "vni",
        dst_port: u32 = "dst-port",
        udp_port: u32 = "udp-port",
        src_port: u32 = "src-port",
        parent_interface: String = "parent-interface",
        // Ours.
        backend: String = "backend",
        rate: String = "rate",
        delay: String = "delay",
        jitter: String = "jitter",
        loss: String = "loss",
        admin: String = "admin",
        manage: String = "manage",
    }

    EndpointDef {
        node: String = "node",
        interface: String = "interface",
        mac: String = "mac",
        ipv4: String = "ipv4",
        ipv6: String = "ipv6",
        vars: Map<Json> = "vars",
    }
}

impl Stages {
    /// The stages that are given.
    fn each(&self) -> impl Iterator<Item = (Stage, &StageDef)> {
        let stages = [
            (Stage::Create, &self.create),
            (Stage::CreateLinks, &self.create_links),
            (Stage::Configure, &self.configure),
            (Stage::Healthy, &self.healthy),
            (Stage::Exit, &self.exit),
        ];
        stages.into_iter().filter_map(|(stage, def)| Some((stage, &def.as_ref()?.value)))
    }

    /// What each stage waits for.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (Stage, &WaitForDef)> {
        self.each().flat_map(|(stage, def)| {
            def.wait_for.iter().flat_map(|list| &list.value).map(move |wait| (stage, &wait.value))
        })
    }

    /// The commands of each stage.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (Stage, &StageExec)> {
        self.each().flat_map(|(stage, def)| def.exec.iter().flat_map(|execs| &execs.0).map(move |exec| (stage, exec)))
    }
}

/// An end of a link: `node:interface`, or with every field by its name.
#[derive(Debug, Clone)]
pub(crate) enum EndpointField {
    Brief(String),
    Full(Box<EndpointDef>),
}

impl FromTree for EndpointField {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Mapping(_) => EndpointDef::from_tree(node, problems).map(|full| Self::Full(Box::new(full))),
            _ => String::from_tree(node, problems).map(Self::Brief),
        }
    }
}

/// The commands of a stage, in either way to write them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageExecs(pub(crate) Vec<StageExec>);

impl FromTree for StageExecs {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        if let Value::Mapping(_) = &node.value {
            let StageExecsByPhase { on_enter, on_exit } = StageExecsByPhase::from_tree(node, problems)?;
            let of_phase = |commands: Option<At<Vec<At<String>>>>, phase: &'static str| {
                commands.into_iter().flat_map(|list| list.value).map(move |command| {
                    let phase = Some(At { value: phase.to_owned(), span: command.span });
                    StageExec { command: Some(command), target: None, phase }
                })
            };
            return Some(Self(of_phase(on_enter, "on-enter").chain(of_phase(on_exit, "on-exit")).collect()));
        }
        let execs = Vec::<At<StageExec>>::from_tree(node, problems)?;
        Some(Self(execs.into_iter().map(|exec| exec.value).collect()))
    }
}
