"""Search attributes, typed. They are not sealed and never hold a secret."""

from temporalio.common import SearchAttributeKey

STATUS = SearchAttributeKey.for_keyword("CertgateStatus")
INSTALL_STATE = SearchAttributeKey.for_keyword("CertgateInstallState")
GATEWAY = SearchAttributeKey.for_keyword("CertgateGateway")
ORGANIZATION = SearchAttributeKey.for_keyword("CertgateOrganization")
COMMON_NAME = SearchAttributeKey.for_keyword("CertgateCommonName")

ALL = (STATUS, INSTALL_STATE, GATEWAY, ORGANIZATION, COMMON_NAME)
