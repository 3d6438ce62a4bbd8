"""All workflows, for workers and for replay."""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.authority_watch import AuthorityWatchWorkflow
from workflows.campaign import ReplacementCampaignWorkflow
from workflows.certificate_import import CertificateImportWorkflow
from workflows.gateways import EndpointDiscoveryWorkflow, GatewayCheckInWorkflow, GatewayJoinWorkflow
from workflows.looks import AuthorityCheckWorkflow, EndpointTestWorkflow, KeystoreLookWorkflow
from workflows.modules import GatewaySyncWorkflow
from workflows.network_scan import NetworkScanWorkflow
from workflows.renewal import CertificateRenewalWorkflow
from workflows.request import CertificateRequestWorkflow
from workflows.revocation import CertificateRevocationWorkflow
from workflows.verification import VerificationWorkflow

WORKFLOWS: tuple[type, ...] = (
    CertificateRequestWorkflow,
    CertificateRenewalWorkflow,
    CertificateRevocationWorkflow,
    ReplacementCampaignWorkflow,
    AuthorityWatchWorkflow,
    CertificateImportWorkflow,
    GatewayJoinWorkflow,
    GatewayCheckInWorkflow,
    EndpointDiscoveryWorkflow,
    GatewaySyncWorkflow,
    EndpointTestWorkflow,
    KeystoreLookWorkflow,
    AuthorityCheckWorkflow,
    VerificationWorkflow,
    NetworkScanWorkflow,
)


def runner() -> SandboxedWorkflowRunner:
    """The sandbox that workflows run in. What is not named here is loaded anew for each workflow: all that decides
    anything. `model` is plain words and pure rules, and the two modules of `workflows` are constants."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        "model", "activities", "workflows.options", "workflows.attributes"
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)
