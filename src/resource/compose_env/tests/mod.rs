mod dotenv;
mod editor;
mod entangled;
mod kind;
mod oracle;
mod projects;
mod texts;
mod uses;
