BEGIN TRANSACTION;
CREATE TABLE dropped (
            study INTEGER NOT NULL, number INTEGER NOT NULL, revision INTEGER NOT NULL,
            token INTEGER NOT NULL);
CREATE TABLE report (
            study INTEGER NOT NULL, number INTEGER NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL,
            PRIMARY KEY (study, number, step)) WITHOUT ROWID;
INSERT INTO "report" VALUES(1,0,1,'{"value": 0.05660267313942313}');
INSERT INTO "report" VALUES(1,1,1,'{"value": 0.46294333739206195}');
INSERT INTO "report" VALUES(1,2,1,'{"value": 0.27124609518796206}');
INSERT INTO "report" VALUES(1,3,1,'{"value": 0.24045689683407545}');
INSERT INTO "report" VALUES(1,5,1,'{"value": 0.3208073219924605}');
INSERT INTO "report" VALUES(1,6,1,'{"value": 0.5}');
INSERT INTO "report" VALUES(1,8,1,'{"value": 0.4999980902528661}');
INSERT INTO "report" VALUES(1,9,1,'{"value": 0.33932652411170894}');
INSERT INTO "report" VALUES(1,10,1,'{"value": 0.18341274737168195}');
INSERT INTO "report" VALUES(1,11,1,'{"value": 0.33921938825958853}');
CREATE TABLE space (
            study INTEGER NOT NULL REFERENCES study, version INTEGER NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (study, version));
INSERT INTO "space" VALUES(1,1,'{"parameters": {"x": {"type": "float", "low": 0.0, "high": 1.0}, "kind": {"type": "categorical", "choices": ["a", "b"]}, "l2": {"type": "float", "low": 0.001, "high": 1.0, "log": true, "when": [{"kind": ["b"]}]}}}');
CREATE TABLE study (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, directions TEXT NOT NULL, seed TEXT NOT NULL,
            sampler TEXT NOT NULL, stop_reason TEXT, created REAL NOT NULL, attributes TEXT NOT NULL,
            revision INTEGER NOT NULL DEFAULT 0);
INSERT INTO "study" VALUES(1,'old','{"value": "maximize"}','3','{"name": "bayes", "initial": null, "fantasies": 16, "members": 4}','budget: all trials are done',1750000000.0,'{"open": false}',52);
CREATE TABLE trial (
            study INTEGER NOT NULL REFERENCES study, number INTEGER NOT NULL, state TEXT NOT NULL, params TEXT, key
            TEXT, metrics TEXT NOT NULL DEFAULT '{}', sems TEXT NOT NULL DEFAULT '{}', gradient TEXT, reason TEXT,
            error TEXT, origin TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, token INTEGER NOT NULL
            DEFAULT 0, lease_until REAL, started REAL, seconds REAL, attributes TEXT NOT NULL DEFAULT '{}',
            space_version INTEGER NOT NULL, revision INTEGER NOT NULL,
            PRIMARY KEY (study, number));
INSERT INTO "trial" VALUES(1,0,'complete','{"x": 0.11320534627884626, "kind": "b", "l2": 0.11028112691768101}','{"kind":"b","l2":0.11028112691768101,"x":0.11320534627884626}','{"value": 0.22348647319652726}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,4);
INSERT INTO "trial" VALUES(1,1,'complete','{"x": 0.9258866747841239, "kind": "a"}','{"kind":"a","x":0.9258866747841239}','{"value": 0.9258866747841239}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,8);
INSERT INTO "trial" VALUES(1,2,'complete','{"x": 0.5424921903759241, "kind": "b", "l2": 0.3016398327511978}','{"kind":"b","l2":0.3016398327511978,"x":0.5424921903759241}','{"value": 0.8441320231271219}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,12);
INSERT INTO "trial" VALUES(1,3,'complete','{"x": 0.4809137936681509, "kind": "a"}','{"kind":"a","x":0.4809137936681509}','{"value": 0.4809137936681509}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,16);
INSERT INTO "trial" VALUES(1,4,'failed','{"x": 0.9724137362164393, "kind": "b", "l2": 0.5021888870455211}','{"kind":"b","l2":0.5021888870455211,"x":0.9724137362164393}','{}','{}',NULL,'error','ValueError: no (mk.py:8)','sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{}',1,19);
INSERT INTO "trial" VALUES(1,5,'complete','{"x": 0.641614643984921, "kind": "b", "l2": 0.024665085376589305}','{"kind":"b","l2":0.024665085376589305,"x":0.641614643984921}','{"value": 0.6662797293615103}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,23);
INSERT INTO "trial" VALUES(1,6,'complete','{"x": 1.0, "kind": "a"}','{"kind":"a","x":1.0}','{"value": 1.0}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,27);
INSERT INTO "trial" VALUES(1,7,'failed','{"x": 1.0, "kind": "b", "l2": 0.0010000000000000002}','{"kind":"b","l2":0.0010000000000000002,"x":1.0}','{}','{}',NULL,'error','ValueError: no (mk.py:8)','sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{}',1,30);
INSERT INTO "trial" VALUES(1,8,'complete','{"x": 0.9999961805057322, "kind": "a"}','{"kind":"a","x":0.9999961805057322}','{"value": 0.9999961805057322}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,34);
INSERT INTO "trial" VALUES(1,9,'complete','{"x": 0.6786530482234179, "kind": "b", "l2": 0.9928400582206635}','{"kind":"b","l2":0.9928400582206635,"x":0.6786530482234179}','{"value": 1.6714931064440814}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,38);
INSERT INTO "trial" VALUES(1,10,'complete','{"x": 0.3668254947433639, "kind": "b", "l2": 1.0}','{"kind":"b","l2":1.0,"x":0.3668254947433639}','{"value": 1.366825494743364}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,42);
INSERT INTO "trial" VALUES(1,11,'complete','{"x": 0.6784387765191771, "kind": "b", "l2": 1.0}','{"kind":"b","l2":1.0,"x":0.6784387765191771}','{"value": 1.678438776519177}','{}',NULL,NULL,NULL,'sampler',1,'elsewhere|1|1',1,NULL,1750000000.0,0.5,'{"remark": "\u00fc"}',1,46);
INSERT INTO "trial" VALUES(1,12,'complete','{"x": 0.5, "kind": "a"}','{"kind":"a","x":0.5}','{"value": 0.5}','{}',NULL,NULL,NULL,'added',0,NULL,0,NULL,NULL,NULL,'{}',1,49);
INSERT INTO "trial" VALUES(1,13,'running','{"x": 0.25, "kind": "a"}','{"kind":"a","x":0.25}','{}','{}',NULL,NULL,NULL,'enqueued',1,'elsewhere|1|1',1,1750000060.0,1750000000.0,0.5,'{}',1,52);
INSERT INTO "trial" VALUES(1,14,'waiting','{"x": 0.75, "kind": "a"}','{"kind":"a","x":0.75}','{}','{}',NULL,NULL,NULL,'enqueued',0,NULL,0,NULL,NULL,NULL,'{}',1,51);
CREATE TABLE welltuned_migration (version INTEGER PRIMARY KEY, applied TEXT NOT NULL);
INSERT INTO "welltuned_migration" VALUES(1,'2026-11-25 07:19:52');
CREATE INDEX trial_revision ON trial (study, revision);
CREATE INDEX trial_state ON trial (study, state, number);
CREATE INDEX trial_key ON trial (study, key);
COMMIT;
