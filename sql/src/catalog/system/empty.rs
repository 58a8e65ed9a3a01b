//! Views over objects that Cairn does not have: clients join them, and find nothing.

use super::cell::*;

empty! { PG_DESCRIPTION PG_CATALOG "pg_description" 2609 { "objoid" Oid, "classoid" Oid, "objsubid" Int4, "description" Text } }
empty! { PG_SHDESCRIPTION PG_CATALOG "pg_shdescription" 2396 { "objoid" Oid, "classoid" Oid, "description" Text } }
empty! { PG_INHERITS PG_CATALOG "pg_inherits" 2611 { "inhrelid" Oid, "inhparent" Oid, "inhseqno" Int4, "inhdetachpending" Bool } }
empty! { PG_POLICY PG_CATALOG "pg_policy" 3256 { "oid" Oid, "polname" Name, "polrelid" Oid, "polcmd" InternalChar, "polpermissive" Bool, "polroles" OidArray, "polqual" PgNodeTree, "polwithcheck" PgNodeTree } }
empty! { PG_PUBLICATION PG_CATALOG "pg_publication" 6104 { "oid" Oid, "pubname" Name, "pubowner" Oid, "puballtables" Bool, "pubinsert" Bool, "pubupdate" Bool, "pubdelete" Bool, "pubtruncate" Bool, "pubviaroot" Bool } }
empty! { PG_PUBLICATION_REL PG_CATALOG "pg_publication_rel" 6106 { "oid" Oid, "prpubid" Oid, "prrelid" Oid, "prqual" PgNodeTree, "prattrs" Int2Vector } }
empty! { PG_PUBLICATION_NAMESPACE PG_CATALOG "pg_publication_namespace" 6237 { "oid" Oid, "pnpubid" Oid, "pnnspid" Oid } }
empty! { PG_PUBLICATION_TABLES PG_CATALOG "pg_publication_tables" 12068 { "pubname" Name, "schemaname" Name, "tablename" Name, "attnames" NameArray, "rowfilter" Text } }
empty! { PG_STATISTIC_EXT PG_CATALOG "pg_statistic_ext" 3381 { "oid" Oid, "stxrelid" Oid, "stxname" Name, "stxnamespace" Oid, "stxowner" Oid, "stxstattarget" Int4, "stxkeys" Int2Vector, "stxkind" CharArray, "stxexprs" PgNodeTree } }
empty! { PG_STATISTIC_EXT_DATA PG_CATALOG "pg_statistic_ext_data" 3429 { "stxoid" Oid, "stxdinherit" Bool, "stxdndistinct" Bytea, "stxddependencies" Bytea, "stxdmcv" Bytea, "stxdexpr" Text } }
empty! { PG_TRIGGER PG_CATALOG "pg_trigger" 2620 { "oid" Oid, "tgrelid" Oid, "tgparentid" Oid, "tgname" Name, "tgfoid" Oid, "tgtype" Int2, "tgenabled" InternalChar, "tgisinternal" Bool, "tgconstrrelid" Oid, "tgconstrindid" Oid, "tgconstraint" Oid, "tgdeferrable" Bool, "tginitdeferred" Bool, "tgnargs" Int2, "tgattr" Int2Vector, "tgargs" Bytea, "tgqual" PgNodeTree, "tgoldtable" Name, "tgnewtable" Name } }
empty! { PG_REWRITE PG_CATALOG "pg_rewrite" 2618 { "oid" Oid, "rulename" Name, "ev_class" Oid, "ev_type" InternalChar, "ev_enabled" InternalChar, "is_instead" Bool, "ev_qual" PgNodeTree, "ev_action" PgNodeTree } }
empty! { PG_FOREIGN_TABLE PG_CATALOG "pg_foreign_table" 3118 { "ftrelid" Oid, "ftserver" Oid, "ftoptions" TextArray } }
empty! { PG_FOREIGN_SERVER PG_CATALOG "pg_foreign_server" 1417 { "oid" Oid, "srvname" Name, "srvowner" Oid, "srvfdw" Oid, "srvtype" Text, "srvversion" Text, "srvacl" AclitemArray, "srvoptions" TextArray } }
empty! { PG_FOREIGN_DATA_WRAPPER PG_CATALOG "pg_foreign_data_wrapper" 2328 { "oid" Oid, "fdwname" Name, "fdwowner" Oid, "fdwhandler" Oid, "fdwvalidator" Oid, "fdwacl" AclitemArray, "fdwoptions" TextArray } }
empty! { PG_USER_MAPPING PG_CATALOG "pg_user_mapping" 1418 { "oid" Oid, "umuser" Oid, "umserver" Oid, "umoptions" TextArray } }
empty! { PG_PARTITIONED_TABLE PG_CATALOG "pg_partitioned_table" 3350 { "partrelid" Oid, "partstrat" InternalChar, "partnatts" Int2, "partdefid" Oid, "partattrs" Int2Vector, "partclass" OidVector, "partcollation" OidVector, "partexprs" PgNodeTree } }
empty! { PG_EXTENSION PG_CATALOG "pg_extension" 3079 { "oid" Oid, "extname" Name, "extowner" Oid, "extnamespace" Oid, "extrelocatable" Bool, "extversion" Text, "extconfig" OidArray, "extcondition" TextArray } }
empty! { PG_ENUM PG_CATALOG "pg_enum" 3501 { "oid" Oid, "enumtypid" Oid, "enumsortorder" Float4, "enumlabel" Name } }
empty! { PG_RANGE PG_CATALOG "pg_range" 3541 { "rngtypid" Oid, "rngsubtype" Oid, "rngmultitypid" Oid, "rngcollation" Oid, "rngsubopc" Oid, "rngcanonical" Regproc, "rngsubdiff" Regproc } }
empty! { PG_DEPEND PG_CATALOG "pg_depend" 2608 { "classid" Oid, "objid" Oid, "objsubid" Int4, "refclassid" Oid, "refobjid" Oid, "refobjsubid" Int4, "deptype" InternalChar } }
empty! { PG_SHDEPEND PG_CATALOG "pg_shdepend" 1214 { "dbid" Oid, "classid" Oid, "objid" Oid, "objsubid" Int4, "refclassid" Oid, "refobjid" Oid, "deptype" InternalChar } }
empty! { PG_VIEWS PG_CATALOG "pg_views" 12028 { "schemaname" Name, "viewname" Name, "viewowner" Name, "definition" Text } }
empty! { PG_MATVIEWS PG_CATALOG "pg_matviews" 12038 { "schemaname" Name, "matviewname" Name, "matviewowner" Name, "tablespace" Name, "hasindexes" Bool, "ispopulated" Bool, "definition" Text } }
empty! { PG_EVENT_TRIGGER PG_CATALOG "pg_event_trigger" 3466 { "oid" Oid, "evtname" Name, "evtevent" Name, "evtowner" Oid, "evtfoid" Oid, "evtenabled" InternalChar, "evttags" TextArray } }
empty! { PG_AUTH_MEMBERS PG_CATALOG "pg_auth_members" 1261 { "roleid" Oid, "member" Oid, "grantor" Oid, "admin_option" Bool } }
empty! { PG_SECLABEL PG_CATALOG "pg_seclabel" 3596 { "objoid" Oid, "classoid" Oid, "objsubid" Int4, "provider" Text, "label" Text } }
empty! { PG_SHSECLABEL PG_CATALOG "pg_shseclabel" 3592 { "objoid" Oid, "classoid" Oid, "provider" Text, "label" Text } }
empty! { PG_SUBSCRIPTION PG_CATALOG "pg_subscription" 6100 { "oid" Oid, "subdbid" Oid, "subskiplsn" Text, "subname" Name, "subowner" Oid, "subenabled" Bool, "subbinary" Bool, "substream" Bool, "subtwophasestate" InternalChar, "subdisableonerr" Bool, "subconninfo" Text, "subslotname" Name, "subsynccommit" Text, "subpublications" TextArray } }
empty! { PG_SUBSCRIPTION_REL PG_CATALOG "pg_subscription_rel" 6102 { "srsubid" Oid, "srrelid" Oid, "srsubstate" InternalChar, "srsublsn" Text } }
empty! { PG_CONVERSION PG_CATALOG "pg_conversion" 2607 { "oid" Oid, "conname" Name, "connamespace" Oid, "conowner" Oid, "conforencoding" Int4, "contoencoding" Int4, "conproc" Regproc, "condefault" Bool } }
empty! { PG_DB_ROLE_SETTING PG_CATALOG "pg_db_role_setting" 2964 { "setdatabase" Oid, "setrole" Oid, "setconfig" TextArray } }
empty! { PG_PREPARED_XACTS PG_CATALOG "pg_prepared_xacts" 12090 { "transaction" Xid, "gid" Text, "prepared" TimestampTz, "owner" Name, "database" Name } }
empty! { PG_LARGEOBJECT_METADATA PG_CATALOG "pg_largeobject_metadata" 2995 { "oid" Oid, "lomowner" Oid, "lomacl" AclitemArray } }
empty! { PG_DEFAULT_ACL PG_CATALOG "pg_default_acl" 826 { "oid" Oid, "defaclrole" Oid, "defaclnamespace" Oid, "defaclobjtype" InternalChar, "defaclacl" AclitemArray } }
empty! { PG_INIT_PRIVS PG_CATALOG "pg_init_privs" 3394 { "objoid" Oid, "classoid" Oid, "objsubid" Int4, "privtype" InternalChar, "initprivs" AclitemArray } }
empty! { PG_TRANSFORM PG_CATALOG "pg_transform" 3576 { "oid" Oid, "trftype" Oid, "trflang" Oid, "trffromsql" Regproc, "trftosql" Regproc } }
empty! { PG_OPCLASS PG_CATALOG "pg_opclass" 2616 { "oid" Oid, "opcmethod" Oid, "opcname" Name, "opcnamespace" Oid, "opcowner" Oid, "opcfamily" Oid, "opcintype" Oid, "opcdefault" Bool, "opckeytype" Oid } }
empty! { PG_OPFAMILY PG_CATALOG "pg_opfamily" 2753 { "oid" Oid, "opfmethod" Oid, "opfname" Name, "opfnamespace" Oid, "opfowner" Oid } }
empty! { PG_AMOP PG_CATALOG "pg_amop" 2602 { "oid" Oid, "amopfamily" Oid, "amoplefttype" Oid, "amoprighttype" Oid, "amopstrategy" Int2, "amoppurpose" InternalChar, "amopopr" Oid, "amopmethod" Oid, "amopsortfamily" Oid } }
empty! { PG_AMPROC PG_CATALOG "pg_amproc" 2603 { "oid" Oid, "amprocfamily" Oid, "amproclefttype" Oid, "amprocrighttype" Oid, "amprocnum" Int2, "amproc" Regproc } }
empty! { PG_TS_CONFIG PG_CATALOG "pg_ts_config" 3602 { "oid" Oid, "cfgname" Name, "cfgnamespace" Oid, "cfgowner" Oid, "cfgparser" Oid } }
empty! { PG_TS_DICT PG_CATALOG "pg_ts_dict" 3600 { "oid" Oid, "dictname" Name, "dictnamespace" Oid, "dictowner" Oid, "dicttemplate" Oid, "dictinitoption" Text } }
empty! { PG_TS_PARSER PG_CATALOG "pg_ts_parser" 3601 { "oid" Oid, "prsname" Name, "prsnamespace" Oid, "prsstart" Regproc, "prstoken" Regproc, "prsend" Regproc, "prsheadline" Regproc, "prslextype" Regproc } }
empty! { PG_TS_TEMPLATE PG_CATALOG "pg_ts_template" 3764 { "oid" Oid, "tmplname" Name, "tmplnamespace" Oid, "tmplinit" Regproc, "tmpllexize" Regproc } }
empty! { INFORMATION_VIEWS INFORMATION_SCHEMA "views" 13483 { "table_catalog" Name, "table_schema" Name, "table_name" Name, "view_definition" Varchar, "check_option" Varchar, "is_updatable" Varchar, "is_insertable_into" Varchar, "is_trigger_updatable" Varchar, "is_trigger_deletable" Varchar, "is_trigger_insertable_into" Varchar } }
empty! { INFORMATION_REFERENTIAL_CONSTRAINTS INFORMATION_SCHEMA "referential_constraints" 13339 { "constraint_catalog" Name, "constraint_schema" Name, "constraint_name" Name, "unique_constraint_catalog" Name, "unique_constraint_schema" Name, "unique_constraint_name" Name, "match_option" Varchar, "update_rule" Varchar, "delete_rule" Varchar } }
empty! { INFORMATION_CHECK_CONSTRAINTS INFORMATION_SCHEMA "check_constraints" 13260 { "constraint_catalog" Name, "constraint_schema" Name, "constraint_name" Name, "check_clause" Varchar } }
empty! { INFORMATION_TRIGGERS INFORMATION_SCHEMA "triggers" 13440 { "trigger_catalog" Name, "trigger_schema" Name, "trigger_name" Name, "event_manipulation" Varchar, "event_object_catalog" Name, "event_object_schema" Name, "event_object_table" Name, "action_order" Int4, "action_condition" Varchar, "action_statement" Varchar, "action_orientation" Varchar, "action_timing" Varchar, "action_reference_old_table" Name, "action_reference_new_table" Name, "action_reference_old_row" Name, "action_reference_new_row" Name, "created" TimestampTz } }
empty! { INFORMATION_CONSTRAINT_COLUMN_USAGE INFORMATION_SCHEMA "constraint_column_usage" 13300 { "table_catalog" Name, "table_schema" Name, "table_name" Name, "column_name" Name, "constraint_catalog" Name, "constraint_schema" Name, "constraint_name" Name } }

pub(super) static VIEWS: &[&SystemView] = &[
    &PG_DESCRIPTION,
    &PG_SHDESCRIPTION,
    &PG_INHERITS,
    &PG_POLICY,
    &PG_PUBLICATION,
    &PG_PUBLICATION_REL,
    &PG_PUBLICATION_NAMESPACE,
    &PG_PUBLICATION_TABLES,
    &PG_STATISTIC_EXT,
    &PG_STATISTIC_EXT_DATA,
    &PG_TRIGGER,
    &PG_REWRITE,
    &PG_FOREIGN_TABLE,
    &PG_FOREIGN_SERVER,
    &PG_FOREIGN_DATA_WRAPPER,
    &PG_USER_MAPPING,
    &PG_PARTITIONED_TABLE,
    &PG_EXTENSION,
    &PG_ENUM,
    &PG_RANGE,
    &PG_DEPEND,
    &PG_SHDEPEND,
    &PG_VIEWS,
    &PG_MATVIEWS,
    &PG_EVENT_TRIGGER,
    &PG_AUTH_MEMBERS,
    &PG_SECLABEL,
    &PG_SHSECLABEL,
    &PG_SUBSCRIPTION,
    &PG_SUBSCRIPTION_REL,
    &PG_CONVERSION,
    &PG_DB_ROLE_SETTING,
    &PG_PREPARED_XACTS,
    &PG_LARGEOBJECT_METADATA,
    &PG_DEFAULT_ACL,
    &PG_INIT_PRIVS,
    &PG_TRANSFORM,
    &PG_OPCLASS,
    &PG_OPFAMILY,
    &PG_AMOP,
    &PG_AMPROC,
    &PG_TS_CONFIG,
    &PG_TS_DICT,
    &PG_TS_PARSER,
    &PG_TS_TEMPLATE,
    &INFORMATION_VIEWS,
    &INFORMATION_REFERENTIAL_CONSTRAINTS,
    &INFORMATION_CHECK_CONSTRAINTS,
    &INFORMATION_TRIGGERS,
    &INFORMATION_CONSTRAINT_COLUMN_USAGE,
];
