"""Who is who: organisation authorities, member certificates, roles and identity directories."""

from chainnode.identity.authority import Organisation, create_organisation
from chainnode.identity.directory import (
    load_identity,
    load_organisation,
    save_identity,
    save_organisation,
)
from chainnode.identity.genesis import build_genesis
from chainnode.identity.members import Identity, IssuedKeys, issue_member
from chainnode.identity.roles import Service, check_role

__all__ = [
    "Identity",
    "IssuedKeys",
    "Organisation",
    "Service",
    "build_genesis",
    "check_role",
    "create_organisation",
    "issue_member",
    "load_identity",
    "load_organisation",
    "save_identity",
    "save_organisation",
]
