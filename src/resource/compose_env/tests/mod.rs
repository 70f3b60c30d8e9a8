mod dotenv;
mod editor;
mod entangled;
mod kind;
mod uses;
